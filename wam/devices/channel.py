# SPDX-License-Identifier: Apache-2.0
"""The command channel of a hand or gripper: the newest trajectory, sampled at the present time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.errors import JointError

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Plan:
    start_ns: int
    times_ns: npt.NDArray[np.int64]
    positions: Vector


class TrajectoryChannel:
    """Keeps the newest rolling trajectory and returns the target at a given time. Written and read from any thread.

    A rolling trajectory ends at rest, so the target stays at its last point: when no message arrives, the device holds.
    The delay of a slow device is compensated by the safety node (`command.lead` of the robot file), not here.

    Args:
        names: driver's joint names, in the order of the targets.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._lock = threading.Lock()
        self._plan: _Plan | None = None

    def offer(
        self,
        names: Sequence[str],
        times_ns: Sequence[int],
        positions: Sequence[Sequence[float]],
        *,
        start_ns: int,
    ) -> None:
        """Take a trajectory; it replaces the previous one at once.

        Args:
            names: joint names of the message, in any order; others than ours are ignored.
            times_ns: time of each point after `start_ns` [ns], strictly increasing.
            positions: one row per point, one value per name [rad, m or 1].
            start_ns: hand-over time: the message's stamp, or its time of arrival if the stamp is 0 [ns].

        Raises:
            JointError: a joint is missing or repeated, sizes do not match, or a value is not finite; the previous
                trajectory stays.
        """
        missing = [name for name in self._names if name not in names]
        if missing or len(set(names)) != len(names):
            raise self._error(
                f"lacks {', '.join(missing)}" if missing else "repeats a joint",
                value=str(list(names)),
                allowed=f"all of {list(self._names)}, each once",
            )
        times = np.asarray(times_ns, dtype=np.int64)
        if times.size == 0 or np.any(np.diff(times) <= 0) or times[0] < 0:
            raise self._error(
                "has times that do not strictly increase", value=times.tolist(), allowed="0 <= t0 < t1 < ..."
            )
        if len(positions) != times.size or any(len(row) != len(names) for row in positions):
            raise self._error(
                "has a wrong number or width of rows",
                value=f"{[len(row) for row in positions]}",
                allowed=f"{times.size} rows of {len(names)} positions",
            )
        rows = np.asarray(positions, dtype=np.float64)[:, [list(names).index(name) for name in self._names]]
        if not np.isfinite(rows).all():
            raise self._error("holds a position that is not finite", value=None, allowed="finite numbers")
        with self._lock:
            self._plan = _Plan(start_ns, times, rows)

    def hold(self) -> None:
        """Discard the trajectory: there is no target until the next one."""
        with self._lock:
            self._plan = None

    def target(self, now_ns: int) -> Vector | None:
        """Return the present target, float64 [N], or None before the first trajectory.

        Before the first point it is the first point, after the last one the last point.
        """
        with self._lock:
            plan = self._plan
        if plan is None:
            return None
        at = float(now_ns - plan.start_ns)
        times = plan.times_ns.astype(np.float64)
        return np.array([np.interp(at, times, column) for column in plan.positions.T])

    def _error(self, problem: str, *, value: object, allowed: str) -> JointError:
        return JointError(
            f"trajectory for {', '.join(self._names)} {problem}",
            value=value,
            allowed=allowed,
            where="the publisher on the command topic (only wam_safety should be one)",
        )
