# SPDX-License-Identifier: Apache-2.0
"""Which rows make a sample, with the numbers of the released configurations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wam.policies.aha_wam.training.batch import latent_padding
from wam.policies.aha_wam.training.layout import SampleLayout, clamp
from wam.policies.aha_wam.training.samples import history_warnings


def test_the_base_sample_has_nine_pictures_three_latents_and_four_chunks() -> None:
    layout = SampleLayout()
    assert (layout.video_rows, layout.pictures, layout.latent_frames, layout.chunks) == (64, 9, 3, 4)
    assert layout.picture_rows(10).tolist() == [10, 18, 26, 34, 42, 50, 58, 66, 74]
    assert layout.action_rows(10, 0).tolist() == list(range(10, 74))
    assert layout.observation_rows(10, 0).tolist() == [10, 26, 42, 58]


def test_the_offset_sample_has_thirteen_pictures_four_latents_and_five_chunks() -> None:
    layout = SampleLayout(horizon_rows=80, max_offset=15)
    assert (layout.video_rows, layout.pictures, layout.latent_frames, layout.chunks) == (96, 13, 4, 5)
    assert layout.history_spacing == 96


def test_an_offset_moves_actions_and_images_but_neither_video_nor_history() -> None:
    layout = SampleLayout(horizon_rows=80, max_offset=15)
    assert (layout.action_rows(200, 7) - layout.action_rows(200, 0)).tolist() == [7] * 80
    assert layout.observation_rows(200, 7).tolist() == [207, 223, 239, 255, 271]
    assert layout.picture_rows(200)[0] == 200
    assert layout.history_rows(200).tolist() == [8, 104]


def test_history_is_oldest_first_and_as_long_as_the_episode_allows() -> None:
    layout = SampleLayout()
    assert layout.history_rows(63).tolist() == []
    assert layout.history_rows(64).tolist() == [0]
    assert layout.history_rows(500).tolist() == [116, 180, 244, 308, 372, 436]
    assert [layout.history_length(row) for row in (0, 63, 64, 128, 10_000)] == [0, 0, 1, 2, 6]


def test_rotary_positions_count_eight_rows_each_and_a_latent_is_four_of_them() -> None:
    layout = SampleLayout()
    assert layout.positions(17 * 8 + 5).tolist() == [17, 21, 25]
    assert layout.history_positions(17 * 8 + 5).tolist() == [1, 9]


def test_rows_past_the_end_repeat_the_last_and_are_padding() -> None:
    rows, is_pad = clamp(np.array([0, 8, 9, 10, 30]), 10)
    assert rows.tolist() == [0, 8, 9, 9, 9]
    assert is_pad.tolist() == [False, False, False, True, True]


def test_a_latent_frame_is_padding_only_if_all_its_pictures_are() -> None:
    is_pad = torch.tensor([False] * 6 + [True] * 3)
    assert latent_padding(is_pad).tolist() == [False, False, False]
    is_pad = torch.tensor([False] * 5 + [True] * 4)
    assert latent_padding(is_pad).tolist() == [False, False, True]


@pytest.mark.parametrize(
    "options",
    [{"horizon_rows": 60}, {"max_offset": 16}, {"max_offset": -1}, {"frame_stride": 0}, {"frame_stride": 1}],
)
def test_impossible_sizes_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        SampleLayout(**options)


def test_a_memory_that_is_almost_always_empty_is_told_with_the_distance_of_its_frames() -> None:
    """With 80 rows and 15 offsets, frames are 6.4 s apart on episodes of 8 s: the memory learnt nothing, silently."""
    layout = SampleLayout(horizon_rows=80, max_offset=15)
    lengths = [layout.history_length(row) for row in range(120)]
    (warning,) = history_warnings(lengths, layout, fps=15.0)
    assert "96 rows (6.4 s) apart" in warning


@pytest.mark.parametrize(
    ("layout", "rows"), [(SampleLayout(), 400), (SampleLayout(history_frames=0, horizon_rows=80), 120)]
)
def test_a_memory_that_is_filled_or_not_wanted_is_not_told(layout: SampleLayout, rows: int) -> None:
    lengths = [layout.history_length(row) for row in range(rows)]
    assert history_warnings(lengths, layout, fps=15.0) == ()
