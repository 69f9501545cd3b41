# SPDX-License-Identifier: Apache-2.0
"""Rows at which a training sample may begin: outside pauses."""

from __future__ import annotations

import numpy as np
import pytest

from wam.training.pauses import rows_in_motion

FPS = 10.0
AHEAD = 2
"""Rows within 0.2 s."""


def ramp(*steps: float) -> np.ndarray:
    """An episode of one joint that moves by each of `steps` from one row to the next."""
    return np.cumsum([0.0, *steps], dtype=np.float64).astype(np.float32)[:, None]


def test_rows_inside_a_pause_are_left_out_but_for_the_last_before_the_next_motion() -> None:
    """A policy that learnt from every row of the wait after a grasp held the object and stayed there."""
    episode = ramp(1, 1, *[0] * 6, 1, 1)
    (rows,) = rows_in_motion([episode], fps=FPS)
    # Motion goes on at row 8; rows 2 to 5 stand still for 0.2 s and more.
    assert rows.tolist() == [0, 1, 7, 8, 9, 10]
    assert 8 - rows.tolist()[2] < AHEAD


def test_a_robot_that_has_finished_may_stand_still() -> None:
    (rows,) = rows_in_motion([ramp(1, 1, 0, 0, 0, 0)], fps=FPS)
    assert rows.tolist() == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("share", [0.09, 0.11])
def test_what_counts_as_rest_is_a_share_of_each_joints_own_largest_motion(share: float) -> None:
    slow = ramp(1, *[share] * 6, 1)
    (rows,) = rows_in_motion([slow], fps=FPS)
    assert (len(rows) == len(slow)) == (share > 0.1)


def test_one_moving_joint_is_enough_and_one_that_only_jitters_does_not_count() -> None:
    still, gripper = ramp(*[0] * 8), 0.01 * ramp(*[1] * 8)
    (rows,) = rows_in_motion([np.hstack([still, gripper])], fps=FPS)
    assert len(rows) == 9
    jitter = 1e-4 * ramp(*[1, -1] * 4)
    (rows,) = rows_in_motion([np.hstack([ramp(1, *[0] * 6, 1), jitter])], fps=FPS, min_std=1e-3)
    assert len(rows) < 9


def test_an_episode_of_one_row_is_kept() -> None:
    assert [rows.tolist() for rows in rows_in_motion([ramp(), ramp(1)], fps=FPS)] == [[0], [0, 1]]
