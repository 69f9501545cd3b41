# SPDX-License-Identifier: Apache-2.0
"""Which rows of an episode make up one training sample.

For a sample that starts at row r, with the numbers of the released configuration (64 rows, no offset):

    rows      r-384 ... r-128   r-64    r   r+8  r+16 ... r+64
    history     x         x       x                               one clean frame each, oldest first
    video                               x    x    x         x     9 pictures -> 3 latent frames
    actions                             |--chunk 0--|--chunk 1--| ...
    images                              0           1             the newest image of each chunk

With an offset d (paper Eq. 11) the actions and images move right by d while video and history stay. Rows
past the end of the episode repeat its last row and are marked as padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.policies.aha_wam.training.batch import FRAMES_PER_LATENT

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SampleLayout:
    """Sizes of a sample, in control rows.

    Attributes:
        horizon_rows: action rows H, a multiple of `chunk_rows`.
        chunk_rows: rows of a chunk R.
        max_offset: largest offset between the planner's image and the first action row; 0 trains none.
        frame_stride: rows between two pictures of the planner's video.
        history_frames: most earlier frames M.
        temporal_stride: rows per unit of the temporal rotary position.
    """

    horizon_rows: int = 64
    chunk_rows: int = 16
    max_offset: int = 0
    frame_stride: int = 8
    history_frames: int = 6
    temporal_stride: int = 8

    def __post_init__(self) -> None:
        if self.horizon_rows < 1 or self.chunk_rows < 1 or self.horizon_rows % self.chunk_rows:
            raise ValueError(
                f"horizon_rows={self.horizon_rows} is not a positive multiple of chunk_rows={self.chunk_rows}"
            )
        if not 0 <= self.max_offset < self.chunk_rows:
            raise ValueError(f"max_offset={self.max_offset} is not in 0..chunk_rows-1={self.chunk_rows - 1}")
        if self.frame_stride < 1 or self.temporal_stride < 1 or self.history_frames < 0:
            raise ValueError(f"strides must be positive and history_frames not negative: {self}")
        if self.latent_rows % self.temporal_stride:
            raise ValueError(
                f"frame_stride={self.frame_stride}: a latent frame covers {self.latent_rows} rows, "
                f"which is no multiple of temporal_stride={self.temporal_stride}"
            )

    @property
    def chunks(self) -> int:
        """Chunks per sample, K."""
        return self.horizon_rows // self.chunk_rows

    @property
    def latent_rows(self) -> int:
        """Rows that one latent frame covers."""
        return FRAMES_PER_LATENT * self.frame_stride

    @property
    def video_rows(self) -> int:
        """Rows that the planner's video covers: enough whole latent frames for the last action row."""
        needed = self.horizon_rows + self.max_offset
        return -(-needed // self.latent_rows) * self.latent_rows

    @property
    def pictures(self) -> int:
        """Pictures of the planner's video, P."""
        return self.video_rows // self.frame_stride + 1

    @property
    def latent_frames(self) -> int:
        """Latent frames of the planner's video, F."""
        return self.video_rows // self.latent_rows + 1

    @property
    def history_spacing(self) -> int:
        """Rows between two history frames; at deployment, between two kept prefills."""
        return self.video_rows

    def picture_rows(self, row: int) -> Rows:
        """Return the rows of the planner's pictures, [P], not clamped to the episode."""
        return row + self.frame_stride * np.arange(self.pictures)

    def history_length(self, row: int) -> int:
        """Return how many history frames lie inside the episode."""
        return min(self.history_frames, row // self.history_spacing)

    def history_rows(self, row: int) -> Rows:
        """Return the rows of the history frames, oldest first, [history_length]."""
        return row - self.history_spacing * np.arange(self.history_length(row), 0, -1)

    def observation_rows(self, row: int, offset: int) -> Rows:
        """Return the first row of each chunk, [K]."""
        return row + offset + self.chunk_rows * np.arange(self.chunks)

    def action_rows(self, row: int, offset: int) -> Rows:
        """Return the rows that are trained, [H]."""
        return row + offset + np.arange(self.horizon_rows)

    def positions(self, row: int) -> Rows:
        """Return the temporal rotary position of each latent frame, [F]."""
        step = self.latent_rows // self.temporal_stride
        return row // self.temporal_stride + step * np.arange(self.latent_frames)

    def history_positions(self, row: int) -> Rows:
        """Return the temporal rotary position of each history frame, [history_length]."""
        return self.history_rows(row) // self.temporal_stride


def clamp(rows: Rows, length: int) -> tuple[Rows, npt.NDArray[np.bool_]]:
    """Replace rows past the end by the last one.

    Args:
        rows: not negative.
        length: rows of the episode.

    Returns:
        Rows inside the episode, and which of them are padding.
    """
    return np.minimum(rows, length - 1), rows >= length
