# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: N815  (fields carry shape suffixes)
"""A LeRobot data set as DUST samples: pictures now and k rows later, joint state, k action rows, instruction.

Past the end of an episode the last picture and the last action are repeated, as GR00T-N1's data set does.

Shapes: V camera views, S tokens of a prompt, J joints of the state (padded), N action rows, A action values
(padded), P image tokens, O vision channels, L language channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from wam.models.bundle.header import open_tensors
from wam.policies.dust.config import DustConfig
from wam.policies.dust.prompt import pad_left
from wam.policies.dust.units import RowUnits
from wam.policies.dust.views import crop_window, prepare
from wam.training.augmentation import AugmentSection, augment_pictures, state_noise
from wam.training.episodes import EpisodeTable, VideoTable
from wam.training.sampler import SampleRef

JITTER_BRIGHTNESS, JITTER_CONTRAST, JITTER_SATURATION, JITTER_HUE = 0.3, 0.4, 0.5, 0.08
"""Largest changes of GR00T-N1's colour jitter; the hue is a share of a turn."""

T = TypeVar("T", bound="DustNumbers")


@dataclass(frozen=True, slots=True)
class DustNumbers:
    """Everything of a batch but the pictures.

    Attributes:
        state_B1J: normalised.
        action_BNA: normalised.
        action_mask_BNA: 1 for real columns.
        recorded_BN: bool, the row lies inside the episode.
        target_valid_B: the future picture lies inside the episode.
    """

    state_B1J: Tensor
    action_BNA: Tensor
    action_mask_BNA: Tensor
    recorded_BN: Tensor
    target_valid_B: Tensor

    @property
    def size(self) -> int:
        """Number of samples."""
        return self.state_B1J.shape[0]


@dataclass(frozen=True, slots=True)
class DustPixels(DustNumbers):
    """A batch with pictures in [-1, 1].

    Attributes:
        pixels_BV3HW: current pictures.
        future_B3HW: the target view, k rows later.
        ids_BS: prompts, padded on the left.
        mask_BS: real tokens.
    """

    pixels_BV3HW: Tensor
    future_B3HW: Tensor
    ids_BS: Tensor
    mask_BS: Tensor


@dataclass(frozen=True, slots=True)
class DustFeatures(DustNumbers):
    """A batch after the frozen backbone.

    Attributes:
        features_BSL: state of the language model, before its projection.
        mask_BS: real rows.
        target_BPO: SigLIP embedding of the future picture, pooled.
    """

    features_BSL: Tensor
    mask_BS: Tensor
    target_BPO: Tensor


DustSeen = DustPixels | DustFeatures
"""A batch as the objective gets it: with pictures where the vision learns."""


def move(batch: T, device: torch.device) -> T:
    """Return the batch with every tensor on `device`."""
    return replace(
        batch, **{f.name: getattr(batch, f.name).to(device, non_blocking=True) for f in fields(batch)}
    )


def collate(samples: Sequence[T]) -> T:
    """Join samples; prompts of several lengths are padded on the left."""
    first = samples[0]
    joined: dict[str, Tensor] = {}
    for f in fields(first):
        if f.name not in ("ids_BS", "mask_BS", "features_BSL"):
            joined[f.name] = torch.cat([getattr(s, f.name) for s in samples])
    if isinstance(first, DustPixels):
        prompts = [s.ids_BS for s in samples if isinstance(s, DustPixels)]
        joined["ids_BS"], joined["mask_BS"] = pad_left(prompts, pad=0)
    elif isinstance(first, DustFeatures):
        rows = [(s.features_BSL, s.mask_BS) for s in samples if isinstance(s, DustFeatures)]
        longest = max(f.shape[1] for f, _ in rows)
        joined["features_BSL"] = torch.cat([_pad_rows(f, longest) for f, _ in rows])
        joined["mask_BS"] = torch.cat([_pad_rows(m, longest) for _, m in rows])
    return replace(first, **joined)


def _pad_rows(rows: Tensor, length: int) -> Tensor:
    padding = rows.new_zeros(rows.shape[0], length - rows.shape[1], *rows.shape[2:])
    return torch.cat((padding, rows), dim=1)


class DustSampleTable:
    """Numbers of all samples.

    Args:
        table: of the data set.
        config: sizes.
        units: maps of state and action; None for videos without a robot, which have zeros.
        count_past_end: rows whose future lies past the episode count as valid.
        augment: noise on the state.
    """

    def __init__(
        self,
        table: VideoTable,
        config: DustConfig,
        *,
        units: RowUnits | None,
        count_past_end: bool,
        augment: AugmentSection | None = None,
    ) -> None:
        self.table = table
        self.config = config
        self._count_past_end = count_past_end
        self._units = units
        self._augment = augment or AugmentSection()
        self._mask = torch.zeros(config.action_dim)
        if units is not None:
            if not isinstance(table, EpisodeTable):
                raise ValueError("videos without a robot have no state and action to map")
            self._mask = units.action.mask()

    def numbers(self, place: int, row: int, *, draw: int = 0) -> DustNumbers:
        """Return one sample.

        Args:
            place: of the episode.
            row: of the sample.
            draw: random number from which the noise on the state follows.
        """
        config, length = self.config, self.table.episodes[place].length
        rows = np.arange(row, row + config.action_rows)
        state, action = torch.zeros(config.state_dim), torch.zeros(len(rows), config.action_dim)
        if self._units is not None:
            state, action = self._robot(self._units, place, np.minimum(rows, length - 1), draw)
        return DustNumbers(
            state_B1J=state[None, None],
            action_BNA=action[None],
            action_mask_BNA=self._mask.expand(1, len(rows), -1),
            recorded_BN=torch.from_numpy(rows < length)[None],
            target_valid_B=torch.tensor([self._count_past_end or row + len(rows) < length]),
        )

    def _robot(
        self, units: RowUnits, place: int, rows: npt.NDArray[np.int64], draw: int
    ) -> tuple[Tensor, Tensor]:
        """Return the normalised state at the first row, and the normalised action rows."""
        assert isinstance(self.table, EpisodeTable)
        state = self.table.states[place][rows[0]].astype(np.float64)
        if self._augment.state_noise > 0:
            rng = np.random.default_rng((draw, 1))
            state = state + state_noise(state.shape, units.state_std, self._augment, rng)
        action = self.table.actions[place][rows].astype(np.float64)
        if units.relative:
            action = action - state[units.columns]
        return units.state.to_model(state), units.action.to_model(action)

    def future_row(self, place: int, row: int) -> int:
        """Return the row of the world-model target: k later, or the last."""
        return min(row + self.config.action_rows, self.table.episodes[place].length - 1)


class DustPixelSamples(Dataset[DustPixels]):
    """Samples with pictures, decoded on the fly or prepared on disk.

    Args:
        samples: everything else.
        prompts: task number -> token ids [1, S].
        crop: part of each side that is kept.
        jitter: seed of random crops and colour jitter; None takes the middle and changes nothing.
        augment: further changes of the pictures.
        files: position of an episode -> file with its `pictures`, uint8 [N, V, 3, H, W], from `fill_picture_cache`;
            without jitter.
    """

    def __init__(
        self,
        samples: DustSampleTable,
        prompts: Mapping[int, Tensor],
        *,
        crop: float,
        jitter: int | None = None,
        augment: AugmentSection | None = None,
        files: Mapping[int, Path] | None = None,
    ) -> None:
        self.samples = samples
        self._prompts = prompts
        self._crop = crop
        self._jitter = jitter
        self._augment = augment or AugmentSection()
        self._files = files or {}
        self._open: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.samples.table)

    def prompt(self, place: int, row: int) -> Tensor:
        """Return the token ids of a row's instruction [1, S]."""
        return self._prompts[int(self.samples.table.tasks[place][row])]

    def middle_views(self, place: int, rows: Sequence[int]) -> Tensor:
        """Return the middle of every view of several rows, [n, V, 3, H, W]."""
        table, size = self.samples.table, self.samples.config.image_size
        views = []
        for camera in table.columns.cameras:
            frames = table.dataset.frames(table.episodes[place], camera, rows)
            window = crop_window(*frames.shape[1:3], crop=self._crop)
            views.append(torch.stack([prepare(frame, size=size, window=window) for frame in frames]))
        return torch.stack(views, dim=1)

    def pictures(
        self, place: int, row: int, *, draw: np.random.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the current views [V, 3, H, W] and the future one [3, H, W].

        The future picture has the window of the current one and no jitter, so that what changes between them is
        what happened.

        Args:
            place: of the episode.
            row: of the sample.
            draw: of the augmentation; None takes the middle.
        """
        table, config = self.samples.table, self.samples.config
        episode, size = table.episodes[place], config.image_size
        future_row = self.samples.future_row(place, row)
        if place in self._files:
            if place not in self._open:
                self._open[place] = open_tensors(self._files[place]).get_slice("pictures")
            now, later = (self._open[place][r].float() / 127.5 - 1.0 for r in (row, future_row))
            return now, later[config.target_view]
        views, future = [], None
        for i, camera in enumerate(table.columns.cameras):
            wanted = [row] if i != config.target_view else sorted({row, future_row})
            frames = table.dataset.frames(episode, camera, wanted)
            window = crop_window(*frames.shape[1:3], crop=self._crop)
            if draw is not None:
                spare = (frames.shape[1] - window[2], frames.shape[2] - window[3])
                window = (int(draw.integers(spare[0] + 1)), int(draw.integers(spare[1] + 1)), *window[2:])
            now = prepare(frames[0], size=size, window=window)
            views.append(now if draw is None else jitter(now, draw))
            if i == config.target_view:
                future = prepare(frames[-1], size=size, window=window)
        assert future is not None
        return torch.stack(views), future

    def __getitem__(self, ref: SampleRef) -> DustPixels:
        """Return one sample.

        Raises:
            RecordingError: a picture is missing or damaged.
        """
        place, row = self.samples.table.locate(ref.index)
        draw = None
        if self._jitter is not None:
            draw = np.random.default_rng((self._jitter, ref.index, ref.offset))
        views, future = self.pictures(place, row, draw=draw)
        if self._augment.changes_pictures:
            views, future = self._changed(views, future, np.random.default_rng((ref.draw, 0)))
        ids = self.prompt(place, row)
        numbers = self.samples.numbers(place, row, draw=ref.draw)
        return DustPixels(
            **_values(numbers),
            pixels_BV3HW=views[None],
            future_B3HW=future[None],
            ids_BS=ids,
            mask_BS=torch.ones_like(ids, dtype=torch.bool),
        )

    def _changed(
        self, views_V3HW: Tensor, future_3HW: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Change every view by itself, and the future picture as its view."""
        whole = ((0, 0, *views_V3HW.shape[-2:]),)
        views = []
        for i, view in enumerate(views_V3HW):
            frames = [view, future_3HW] if i == self.samples.config.target_view else [view]
            changed = augment_pictures(torch.stack(frames, dim=1), whole, self._augment, rng)
            views.append(changed[:, 0])
            if len(frames) > 1:
                future_3HW = changed[:, 1]
        return torch.stack(views), future_3HW


def _values(numbers: DustNumbers) -> dict[str, Any]:
    return {f.name: getattr(numbers, f.name) for f in fields(numbers)}


def jitter(picture_3HW: Tensor, draw: np.random.Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue of a picture in [-1, 1], in this order.

    The hue turns the chroma plane of YIQ.
    """
    x = (picture_3HW + 1) / 2
    brightness, contrast, saturation = (
        1 + draw.uniform(-limit, limit) for limit in (JITTER_BRIGHTNESS, JITTER_CONTRAST, JITTER_SATURATION)
    )
    x = (x * brightness).clamp(0, 1)
    luma = torch.tensor([0.299, 0.587, 0.114])
    x = (x * contrast + (1 - contrast) * (luma[:, None, None] * x).sum(0).mean()).clamp(0, 1)
    x = (x * saturation + (1 - saturation) * (luma[:, None, None] * x).sum(0)).clamp(0, 1)
    angle = 2 * np.pi * draw.uniform(-JITTER_HUE, JITTER_HUE)
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    turn = torch.tensor(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]],
        dtype=torch.float32,
    )
    mix = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    return torch.einsum("ij,jhw->ihw", mix, x).clamp(0, 1) * 2 - 1
