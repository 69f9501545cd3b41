# SPDX-License-Identifier: Apache-2.0
"""Where a demonstration stands still: a chunk that begins there cannot be told from one that begins a moment later.

A person waits before a grasp is lifted, and while a gripper closes on an object its command goes on though nothing
that is measured changes. A policy that sees only the present learns to wait there, and waits for ever.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

RESTING_SHARE = 0.1
"""A joint rests where it moves by less between two rows than this share of its largest motion between two rows."""

AHEAD_S = 0.2
"""A row is inside a pause where every joint rests from it on for at least this time [s]."""


def rows_in_motion(
    episodes: Sequence[npt.NDArray[np.float32]], *, fps: float, min_std: float = 0.0
) -> list[npt.NDArray[np.int64]]:
    """Return the rows of each episode that are not inside a pause.

    The last rows of a pause stay: motion begins within `AHEAD_S` of them. So do the rows at the end of an episode,
    where the task is done.

    Args:
        episodes: measured joints of each, [N, J].
        fps: rows per second.
        min_std: a joint with a smaller standard deviation over all episodes does not count as one that moves.
    """
    moves = np.concatenate(episodes).std(axis=0) > min_std
    steps = [np.abs(np.diff(states, axis=0)) for states in episodes]
    resting = RESTING_SHARE * np.concatenate(steps).max(axis=0, initial=0.0)
    ahead = max(1, round(AHEAD_S * fps))
    return [_kept(np.any((step > resting) & moves, axis=1), ahead) for step in steps]


def _kept(moving: npt.NDArray[np.bool_], ahead: int) -> npt.NDArray[np.int64]:
    """Return the rows after which something moves within `ahead` steps, and those after the last motion."""
    rows = np.arange(len(moving) + 1)
    next_motion = np.append(np.where(moving, rows[:-1], len(rows) + ahead), len(rows) + ahead)
    next_motion = np.minimum.accumulate(next_motion[::-1])[::-1]
    kept: npt.NDArray[np.int64] = rows[(next_motion - rows < ahead) | (next_motion > len(rows))]
    return kept
