# SPDX-License-Identifier: Apache-2.0
"""A LeRobot data set as training samples.

A sample is a function of (index, offset) alone, so it does not matter which worker reads it.

Shapes: see `batch`; every sample is a batch of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from wam.models.images import Composite, compose_training
from wam.models.normalisation import Normaliser, PolicyStats
from wam.models.text import TextEncoder
from wam.policies.aha_wam.training.batch import PixelBatch, latent_padding
from wam.policies.aha_wam.training.layout import SampleLayout, clamp
from wam.training.episodes import EpisodeTable, VideoTable
from wam.training.sampler import SampleRef


def history_lengths(table: VideoTable, layout: SampleLayout) -> list[int]:
    """Return the number of history frames of every sample."""
    return [layout.history_length(row) for e in table.episodes for row in range(e.length)]


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
    """

    def __init__(
        self, table: EpisodeTable, layout: SampleLayout, stats: PolicyStats, text: Mapping[int, Tensor]
    ) -> None:
        self.table = table
        self.layout = layout
        self._text = text
        state, action = Normaliser(stats.state), Normaliser(stats.action)
        self._states = [torch.from_numpy(state.to_model(rows)) for rows in table.states]
        self._actions = [torch.from_numpy(action.to_model(rows)) for rows in table.actions]

    def fields(self, ref: SampleRef) -> dict[str, Any]:
        """Return the fields of `_Batch` for one sample."""
        place, row = self.table.locate(ref.index)
        length, layout = self.table.episodes[place].length, self.layout
        action_rows, action_is_pad = clamp(layout.action_rows(row, ref.offset), length)
        state_rows, _ = clamp(layout.observation_rows(row, ref.offset), length)
        _, picture_is_pad = clamp(layout.picture_rows(row), length)
        valid = layout.history_length(row)
        history = np.zeros(layout.history_frames, dtype=np.int64)
        history[layout.history_frames - valid :] = layout.history_positions(row)
        return {
            "positions_BF": torch.from_numpy(layout.positions(row))[None],
            "history_positions_BM": torch.from_numpy(history)[None],
            "history_valid_B": torch.tensor([valid]),
            "text_BTE": self._text[int(self.table.tasks[place][row])][None],
            "states_BKJ": self._states[place][torch.from_numpy(state_rows)][None],
            "actions_BHA": self._actions[place][torch.from_numpy(action_rows)][None],
            "action_is_pad_BH": torch.from_numpy(action_is_pad)[None],
            "latent_is_pad_BF": latent_padding(torch.from_numpy(picture_is_pad))[None],
            "offsets_B": torch.tensor([ref.offset]),
        }


class Pictures:
    """Composed pictures of episodes.

    Args:
        table: of the data set.
        composite: where each camera goes; its tiles are named by picture features.
    """

    def __init__(self, table: EpisodeTable, composite: Composite) -> None:
        self._table = table
        self._composite = composite

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


class PixelSamples(Dataset[PixelBatch]):
    """Samples with pictures, decoded on the fly.

    Args:
        numbers: everything else.
        pictures: of the same table.
    """

    def __init__(self, numbers: SampleNumbers, pictures: Pictures) -> None:
        self._numbers = numbers
        self._pictures = pictures

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
        parts = (layout.picture_rows(row), layout.history_rows(row), layout.observation_rows(row, ref.offset))
        rows, _ = clamp(np.concatenate(parts), length)
        pictures = self._pictures.read(place, rows)
        video, history, observations = pictures.split([len(p) for p in parts], dim=1)
        missing = torch.zeros(3, layout.history_frames - history.shape[1], *history.shape[2:])
        return PixelBatch(
            **self._numbers.fields(ref),
            video_B3PHW=video[None],
            history_BM3HW=torch.cat((missing, history), dim=1).transpose(0, 1)[None],
            observations_BK3HW=observations.transpose(0, 1)[None],
        )
