# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: N815  (fields carry shape suffixes)
"""What one training step sees.

A `Sample` is one item of the data set with pictures; a `PixelBatch` is several of them; a `LatentBatch` is
what is left after the frozen VAE.

Shapes: B batch, F latent frames, P pictures of the planner's video (P = 4 (F - 1) + 1), M history frames,
K chunks, R rows of a chunk, H = K * R rows, C latent channels, h, w latent cells, T text rows, E text width,
J joints of the state, A numbers of an action row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

FRAMES_PER_LATENT = 4
"""Pictures that the VAE folds into one latent frame, after the first picture."""

B = TypeVar("B", bound="_Batch")


@dataclass(frozen=True, slots=True)
class _Batch:
    """Tensors that do not depend on how pictures are encoded.

    Attributes:
        positions_BF: temporal rotary position of each latent frame, int64.
        history_positions_BM: temporal rotary position of each history frame, int64; the valid ones are last.
        history_valid_B: number of valid history frames, int64.
        text_BTE: embedded instruction; rows past its end are zero.
        states_BKJ: normalised joint state at the start of each chunk.
        actions_BHA: normalised action rows from the offset on.
        action_is_pad_BH: rows past the end of the episode.
        latent_is_pad_BF: latent frames all of whose pictures lie past the end of the episode.
        offsets_B: rows between the planner's image and the first action row (paper Eq. 11), int64.
    """

    positions_BF: Tensor
    history_positions_BM: Tensor
    history_valid_B: Tensor
    text_BTE: Tensor
    states_BKJ: Tensor
    actions_BHA: Tensor
    action_is_pad_BH: Tensor
    latent_is_pad_BF: Tensor
    offsets_B: Tensor

    @property
    def size(self) -> int:
        """Number of samples."""
        return self.actions_BHA.shape[0]

    @property
    def chunks(self) -> int:
        """Chunks per sample."""
        return self.states_BKJ.shape[1]


@dataclass(frozen=True, slots=True)
class PixelBatch(_Batch):
    """A batch with pictures in [-1, 1].

    Attributes:
        video_B3PHW: planner's pictures; the first is the newest image of the planner.
        history_BM3HW: earlier images, oldest first; zeros where there is none. M may be 0.
        observations_BK3HW: image at the start of each chunk.
    """

    video_B3PHW: Tensor
    history_BM3HW: Tensor
    observations_BK3HW: Tensor


@dataclass(frozen=True, slots=True)
class LatentBatch(_Batch):
    """A batch of standardised VAE latents.

    Attributes:
        z_BCFHW: latents of the planner's video.
        history_BMCHW: latents of the history images; M may be 0.
        observations_BKCHW: latent of the image at the start of each chunk.
    """

    z_BCFHW: Tensor
    history_BMCHW: Tensor
    observations_BKCHW: Tensor


def move(batch: B, device: torch.device) -> B:
    """Return the batch with every tensor on `device`."""
    moved = {f.name: getattr(batch, f.name).to(device, non_blocking=True) for f in fields(batch)}
    return replace(batch, **moved)


def collate(samples: Sequence[B]) -> B:
    """Join batches of one sample each along the first axis.

    The history is cut to the longest valid one, so that a batch of equal lengths has no padding at all.
    """
    first = samples[0]
    longest = max(int(s.history_valid_B.max()) for s in samples)
    joined = {f.name: torch.cat([getattr(s, f.name) for s in samples]) for f in fields(first)}
    for name in ("history_positions_BM", "history_BM3HW", "history_BMCHW"):
        if name in joined:
            start = joined[name].shape[1] - longest
            joined[name] = joined[name][:, start:]
    return replace(first, **joined)


def latent_padding(picture_is_pad: Tensor) -> Tensor:
    """Return which latent frames are padding.

    Args:
        picture_is_pad: bool [..., P].

    Returns:
        bool [..., F]: the first follows the first picture; each later one is padding if its four pictures are.
    """
    first = picture_is_pad[..., :1]
    later = picture_is_pad[..., 1:].unflatten(-1, (-1, FRAMES_PER_LATENT)).all(-1)
    return torch.cat((first, later), dim=-1)
