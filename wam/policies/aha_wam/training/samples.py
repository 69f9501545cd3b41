# SPDX-License-Identifier: Apache-2.0
"""A LeRobot data set as training samples.

A sample is a function of its reference alone, so it does not matter which worker reads it.

Shapes: see `batch`; every sample is a batch of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from wam.models.bundle.header import open_tensors
from wam.models.images import Composite, compose, compose_training
from wam.models.normalisation import Normaliser, PolicyStats
from wam.models.text import TextEncoder
from wam.policies.aha_wam.training.batch import PixelBatch, latent_padding
from wam.policies.aha_wam.training.layout import Rows, SampleLayout, clamp
from wam.training.augmentation import AugmentSection, Box, augment_pictures, state_noise
from wam.training.episodes import EpisodeTable, VideoTable
from wam.training.sampler import SampleRef


def history_lengths(table: VideoTable, layout: SampleLayout) -> list[int]:
    """Return the number of history frames of every sample."""
    return [layout.history_length(int(row)) for rows in table.rows for row in rows]


USEFUL_HISTORY = 2
"""With fewer earlier frames a memory tells little."""


def history_warnings(lengths: Sequence[int], layout: SampleLayout, *, fps: float) -> tuple[str, ...]:
    """Return a sentence where most samples have hardly any history.

    Args:
        lengths: history frames of every sample.
        layout: of the samples.
        fps: rows per second [Hz].
    """
    median = float(np.median(lengths)) if len(lengths) else 0.0
    if layout.history_frames < USEFUL_HISTORY or median >= USEFUL_HISTORY:
        return ()
    spacing = layout.history_spacing
    return (
        f"the planner's memory holds {median:g} earlier frames in half of the samples: they are {spacing} rows "
        f"({spacing / fps:.1f} s) apart, which is long beside these episodes; a smaller horizon, data.max_offset or "
        "data.frame_stride brings them closer, and data.history_frames: 0 trains without memory",
    )


def embed_tasks(table: EpisodeTable, encoder: TextEncoder, *, template: str) -> dict[int, Tensor]:
    """Embed every instruction of the data set once.

    Args:
        table: of the data set.
        encoder: of the policy.
        template: what it gets; "{task}" stands for the instruction.

    Returns:
        Task number -> [T, E] float32.

    Raises:
        InputError: an instruction is too long, or not in the embedding cache.
        RecordingError: a row names a task that the data set does not list.
    """
    return {
        number: encoder.embed(template.replace("{task}", text)).float()
        for number, text in table.instructions().items()
    }


class SampleNumbers:
    """Everything of a sample but its pictures.

    Args:
        table: of the data set.
        layout: which rows make a sample.
        stats: of state and action; both are z-scored and clamped.
        text: task number -> embedded instruction.
        relative: state column of each action joint, [A], where action rows are relative to the state at the start of
            their chunk; None: they are positions.
        augment: noise on the state.
    """

    def __init__(
        self,
        table: EpisodeTable,
        layout: SampleLayout,
        stats: PolicyStats,
        text: Mapping[int, Tensor],
        *,
        relative: npt.NDArray[np.intp] | None = None,
        augment: AugmentSection | None = None,
    ) -> None:
        self.table = table
        self.layout = layout
        self._text = text
        self._relative, self._augment = relative, augment or AugmentSection()
        self._state, self._action = Normaliser(stats.state), Normaliser(stats.action)
        self._std = stats.state.values["std"]

    def fields(self, ref: SampleRef) -> dict[str, Any]:
        """Return the fields of `_Batch` for one sample."""
        place, row = self.table.locate(ref.index)
        length, layout = self.table.episodes[place].length, self.layout
        action_rows, action_is_pad = clamp(layout.action_rows(row, ref.offset), length)
        state_rows, _ = clamp(layout.observation_rows(row, ref.offset), length)
        _, picture_is_pad = clamp(layout.picture_rows(row), length)
        valid = layout.history_length(row)
        states, actions = self._robot(place, state_rows, action_rows, ref)
        history = np.zeros(layout.history_frames, dtype=np.int64)
        history[layout.history_frames - valid :] = layout.history_positions(row)
        return {
            "positions_BF": torch.from_numpy(layout.positions(row))[None],
            "history_positions_BM": torch.from_numpy(history)[None],
            "history_valid_B": torch.tensor([valid]),
            "text_BTE": self._text[int(self.table.tasks[place][row])][None],
            "states_BKJ": torch.from_numpy(self._state.to_model(states))[None],
            "actions_BHA": torch.from_numpy(self._action.to_model(actions))[None],
            "action_is_pad_BH": torch.from_numpy(action_is_pad)[None],
            "latent_is_pad_BF": latent_padding(torch.from_numpy(picture_is_pad))[None],
            "offsets_B": torch.tensor([ref.offset]),
        }

    def _robot(
        self, place: int, state_rows: Rows, action_rows: Rows, ref: SampleRef
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the state at the start of each chunk and the action rows, in SI units."""
        states = self.table.states[place][state_rows].astype(np.float64)
        actions = self.table.actions[place][action_rows].astype(np.float64)
        if self._augment.state_noise > 0:
            rng = np.random.default_rng((ref.draw, 1))
            states = states + state_noise(states.shape, self._std, self._augment, rng)
        if self._relative is not None:
            starts = np.repeat(states[:, self._relative], self.layout.chunk_rows, axis=0)
            actions = actions - starts
        return states, actions


class Pictures:
    """Composed pictures of episodes.

    Args:
        table: of the data set.
        composite: where each camera goes; its tiles are named by picture features.
    """

    def __init__(self, table: EpisodeTable, composite: Composite) -> None:
        self._table = table
        self._composite = composite

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Where the views of the cameras lie in a picture."""
        return tuple((t.top, t.left, t.height, t.width) for t in self._composite.tiles)

    def read(self, place: int, rows: npt.NDArray[np.int64]) -> Tensor:
        """Return the composed pictures of rows of an episode, float32 [3, len(rows), H, W] in [-1, 1]."""
        dataset, episode = self._table.dataset, self._table.episodes[place]
        wanted, back = np.unique(rows, return_inverse=True)
        views = {
            tile.camera: torch.from_numpy(dataset.frames(episode, tile.camera, wanted.tolist())).permute(
                0, 3, 1, 2
            )
            for tile in self._composite.tiles
        }
        return compose_training(views, self._composite)[:, torch.from_numpy(back)]


class NodePictures(Pictures):
    """Pictures composed as the nodes compose them, in bytes; an episode may be on disk already.

    Args:
        table: of the data set.
        composite: where each camera goes; its tiles are named by picture features.
        files: position of an episode -> file with its `pictures`, uint8 [N, 3, H, W].
    """

    def __init__(
        self, table: EpisodeTable, composite: Composite, *, files: Mapping[int, Path] | None = None
    ) -> None:
        super().__init__(table, composite)
        self._files = files or {}
        self._open: dict[int, Any] = {}

    def read(self, place: int, rows: npt.NDArray[np.int64]) -> Tensor:
        """Return the composed pictures of rows of an episode, float32 [3, len(rows), H, W] in [-1, 1]."""
        if place in self._files:
            if place not in self._open:
                self._open[place] = open_tensors(self._files[place]).get_slice("pictures")
            pictures = torch.stack([self._open[place][int(row)] for row in rows])
        else:
            pictures = self.compose(place, rows)
        return (pictures.float() * (2.0 / 255.0) - 1.0).transpose(0, 1)

    def compose(self, place: int, rows: npt.NDArray[np.int64]) -> Tensor:
        """Return the composed pictures of rows of an episode, uint8 [len(rows), 3, H, W]."""
        dataset, episode = self._table.dataset, self._table.episodes[place]
        wanted, back = np.unique(rows, return_inverse=True)
        cameras = [tile.camera for tile in self._composite.tiles]
        views = {camera: dataset.frames(episode, camera, wanted.tolist()) for camera in cameras}
        composed = [
            compose({camera: views[camera][i] for camera in cameras}, self._composite)
            for i in range(len(wanted))
        ]
        return torch.from_numpy(np.stack(composed)).permute(0, 3, 1, 2)[torch.from_numpy(back)].contiguous()


class PixelSamples(Dataset[PixelBatch]):
    """Samples with pictures, decoded on the fly.

    Args:
        numbers: everything else.
        pictures: of the same table.
        video_every: every how many-th picture of the planner's video is read: all for a video encoder, one per latent
            frame for pixel latents.
        augment: changes of the pictures.
    """

    def __init__(
        self,
        numbers: SampleNumbers,
        pictures: Pictures,
        *,
        video_every: int = 1,
        augment: AugmentSection | None = None,
    ) -> None:
        self._numbers = numbers
        self._pictures = pictures
        self._every = video_every
        self._augment = augment or AugmentSection()

    def __len__(self) -> int:
        return len(self._numbers.table)

    def __getitem__(self, ref: SampleRef) -> PixelBatch:
        """Return one sample.

        Raises:
            RecordingError: a picture is missing or damaged; a broken sample is never replaced by another.
        """
        layout = self._numbers.layout
        place, row = self._numbers.table.locate(ref.index)
        length = self._numbers.table.episodes[place].length
        video_rows = layout.picture_rows(row)[:: self._every]
        parts = (video_rows, layout.history_rows(row), layout.observation_rows(row, ref.offset))
        rows, _ = clamp(np.concatenate(parts), length)
        pictures = self._pictures.read(place, rows)
        if self._augment.changes_pictures:
            rng = np.random.default_rng((ref.draw, 0))
            pictures = augment_pictures(pictures, self._pictures.boxes, self._augment, rng)
        video, history, observations = pictures.split([len(p) for p in parts], dim=1)
        missing = torch.zeros(3, layout.history_frames - history.shape[1], *history.shape[2:])
        return PixelBatch(
            **self._numbers.fields(ref),
            video_B3PHW=video[None],
            history_BM3HW=torch.cat((missing, history), dim=1).transpose(0, 1)[None],
            observations_BK3HW=observations.transpose(0, 1)[None],
        )
