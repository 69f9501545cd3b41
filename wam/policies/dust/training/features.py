# SPDX-License-Identifier: Apache-2.0
"""The frozen backbone in training: encoding batches, and a cache of what it computes on disk.

Where the vision learns, a cache can hold prepared pictures only (`fill_picture_cache`).

The cache of a frozen backbone holds the state of the language model *before* its projection, because the projection
trains (3 M of 1.3 G parameters), and the pooled SigLIP embedding of every row's target view. One file per episode:

    features  [N, S, L]   rows shorter than S are padded on the left
    lengths   [N]         real rows
    target    [N, P, O]   embedding of the row itself; a sample reads that of the row k later
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from wam.models.bundle.header import open_tensors
from wam.policies.dust.eagle import FROZEN_PARTS, EagleBackbone, pool_target
from wam.policies.dust.prompt import pad_left
from wam.policies.dust.training.samples import DustFeatures, DustNumbers, DustPixels, DustPixelSamples
from wam.training.cache import fill_cache, ignore_episodes, weights_digest
from wam.training.sampler import SampleRef

CACHE_FORMAT = "wam-dust-features/1"
ROWS_AT_ONCE = 32


class FeatureEncoder:
    """Runs the frozen backbone.

    Args:
        backbone: its vision, language and mlp1 are moved and frozen; its projection is left alone.
        device: where it runs.
        dtype: what it computes in.
    """

    def __init__(
        self,
        backbone: EagleBackbone,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        for part in FROZEN_PARTS:
            backbone.get_submodule(part).to(device=device, dtype=dtype).eval().requires_grad_(False)
        self._backbone = backbone
        self._device = torch.device(device)
        self.digest = weights_digest(
            {n: w for n, w in backbone.state_dict().items() if not n.startswith("linear.")}
        )

    @torch.no_grad()
    def read(self, pixels_BV3HW: Tensor, ids_BS: Tensor, mask_BS: Tensor) -> Tensor:
        """Return the language model's state, float32 [B, S, L]; padding rows are zero."""
        patches = self._backbone.see(pixels_BV3HW.flatten(0, 1).to(self._device))
        state = self._backbone.read(patches, ids_BS.to(self._device), mask_BS.to(self._device))
        return state.float() * mask_BS.to(self._device)[..., None]

    @torch.no_grad()
    def target(self, pixels_B3HW: Tensor) -> Tensor:
        """Return the world-model target, float32 [B, P, O]."""
        return pool_target(self._backbone.see(pixels_B3HW.to(self._device))).float()

    def batch(self, pixels: DustPixels) -> DustFeatures:
        """Encode a batch."""
        common = {f.name: getattr(pixels, f.name).to(self._device) for f in fields(DustNumbers)}
        return DustFeatures(
            **common,
            features_BSL=self.read(pixels.pixels_BV3HW, pixels.ids_BS, pixels.mask_BS),
            mask_BS=pixels.mask_BS.to(self._device),
            target_BPO=self.target(pixels.future_B3HW),
        )


class DustCachedSamples(Dataset[DustFeatures]):
    """Samples whose features are on disk.

    Args:
        pixels: the same samples with pictures; only their numbers are read.
        files: of every episode, from `fill_feature_cache`.
    """

    def __init__(self, pixels: DustPixelSamples, files: Mapping[int, Path]) -> None:
        self._samples = pixels.samples
        self._files = files
        self._open: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._samples.table)

    def __getitem__(self, ref: SampleRef) -> DustFeatures:
        """Return one sample."""
        place, row = self._samples.table.locate(ref.index)
        if place not in self._open:
            self._open[place] = open_tensors(self._files[place])
        file = self._open[place]
        length = int(file.get_tensor("lengths")[row])
        features = file.get_slice("features")[row : row + 1][:, -length:]
        future = self._samples.future_row(place, row)
        numbers = self._samples.numbers(place, row)
        return DustFeatures(
            **{f.name: getattr(numbers, f.name) for f in fields(numbers)},
            features_BSL=features.float(),
            mask_BS=torch.ones(1, length, dtype=torch.bool),
            target_BPO=file.get_slice("target")[future : future + 1].float(),
        )


def fill_picture_cache(
    directory: Path,
    pixels: DustPixelSamples,
    *,
    crop: float,
    rank: int = 0,
    world: int = 1,
    on_episode: Callable[[int, int], None] = ignore_episodes,
) -> dict[int, Path]:
    """Prepare the pictures that are not on disk yet (`wam.training.cache.fill_cache`).

    Args:
        directory: of the cache; is made.
        pixels: samples without a cache.
        crop: part of each side that is kept.
        rank: number of this process; it prepares every `world`-th episode.
        world: number of processes.
        on_episode: is given how many of how many episodes are done.

    Returns:
        Position of the episode in the table -> its file, with `pictures` uint8 [N, V, 3, H, W].
    """
    table = pixels.samples.table
    sizes = ("dust pictures", crop, pixels.samples.config.image_size, table.columns.cameras)

    def compute(place: int) -> dict[str, Tensor]:
        views = pixels.middle_views(place, range(table.episodes[place].length))
        return {"pictures": ((views + 1.0) * 127.5).round().byte()}

    return fill_cache(
        directory,
        table,
        depends=lambda place: sizes,
        compute=compute,
        rank=rank,
        world=world,
        on_episode=on_episode,
    )


def fill_feature_cache(
    directory: Path,
    pixels: DustPixelSamples,
    encoder: FeatureEncoder,
    *,
    crop: float,
    rank: int = 0,
    world: int = 1,
    on_episode: Callable[[int, int], None] = ignore_episodes,
) -> dict[int, Path]:
    """Compute what is not on disk yet (`wam.training.cache.fill_cache`).

    It depends on backbone, crop, cameras and prompts.

    Args:
        directory: of the cache; is made.
        pixels: samples without augmentation.
        encoder: the frozen backbone.
        crop: part of each side that is kept.
        rank: number of this process; it computes every `world`-th episode.
        world: number of processes.
        on_episode: is given how many of how many episodes are done.

    Returns:
        Position of the episode in the table -> its file.
    """
    table, config = pixels.samples.table, pixels.samples.config
    sizes = (crop, config.eagle.image_size, config.target_view, table.columns.cameras)

    def prompts_of(place: int) -> list[Tensor]:
        return [pixels.prompt(place, row) for row in range(table.episodes[place].length)]

    def depends(place: int) -> tuple[object, ...]:
        prompts = hashlib.sha256(b"".join(p.numpy().tobytes() for p in prompts_of(place))).hexdigest()
        return CACHE_FORMAT, encoder.digest, sizes, prompts

    def compute(place: int) -> dict[str, Tensor]:
        length, prompts = table.episodes[place].length, prompts_of(place)
        features, targets, longest = [], [], max(p.shape[1] for p in prompts)
        for start in range(0, length, ROWS_AT_ONCE):
            rows = range(start, min(start + ROWS_AT_ONCE, length))
            views = pixels.middle_views(place, rows)
            ids, mask = pad_left([prompts[row] for row in rows], pad=config.eagle.pad_token)
            state = encoder.read(views, ids, mask).cpu()
            padding = state.new_zeros(len(rows), longest - state.shape[1], state.shape[2])
            features.append(torch.cat((padding, state), dim=1))
            targets.append(encoder.target(views[:, config.target_view]).cpu())
        return {
            "features": torch.cat(features),
            "lengths": torch.tensor([p.shape[1] for p in prompts]),
            "target": torch.cat(targets),
        }

    return fill_cache(
        directory,
        table,
        depends=depends,
        compute=compute,
        rank=rank,
        world=world,
        metadata={"format": CACHE_FORMAT},
        on_episode=on_episode,
    )
