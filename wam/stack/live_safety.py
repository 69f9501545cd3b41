# SPDX-License-Identifier: Apache-2.0
"""What a running safety node publishes, as the safety events of a replay. No ROS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from wam.core.verdict import Event as LadderMove
from wam.core.verdict import Ladder, Verdict
from wam.evaluation.replay.safety_events import (
    CommandEvent,
    LadderEvent,
    SafetyEvent,
    SafetyInfo,
    SafetySource,
    VerdictCountEvent,
)
from wam.robots.description import RobotDescription
from wam.runtime.safety.build import settings_for

GAP_TICKS = 2.5
"""Commands further apart than this many ticks are not consecutive: the node was silent, or a message was lost."""


class LiveSafety:
    """Turns moves, verdict counts and commands of a running node into events.

    Args:
        robot: its groups give rate and lead of the commands.
    """

    def __init__(self, robot: RobotDescription) -> None:
        settings = settings_for(robot)
        self._tick_ns, self._lead_ns = settings.tick_ns, settings.lead_ns
        unchecked = "" if robot.urdf is not None else f"{robot.name} has no model"
        self.info = SafetyInfo(SafetySource.LIVE_NODE, settings.tick_ns, unchecked)
        self._nothing = np.full(len(robot.joint_names), np.nan)
        self._events: list[SafetyEvent] = []
        self._counts: Counter[Verdict] = Counter()
        self.counted_ns: int | None = None
        self._rung = Ladder.HOLD
        self._rung_since_ns: int | None = None
        self._rung_ns: Counter[Ladder] = Counter()
        self._due: list[int] = []
        self._positions: list[npt.NDArray[np.float64]] = []
        self._last_ns: int | None = None
        self._end_ns: int | None = None

    def begin(self, now_ns: int) -> None:
        """Count time and commands from now on; called at every chunk, the first one counts."""
        if self._rung_since_ns is None:
            self._rung_since_ns = now_ns
            self._events.append(VerdictCountEvent(now_ns))

    def end(self, time_ns: int) -> None:
        """Ignore moves, commands and time after `time_ns` [ns], when no more joint states are played."""
        self._end_ns = time_ns

    def take_move(self, stamp_ns: int, move: LadderMove) -> None:
        """Take an event that the node published at `stamp_ns` [ns]."""
        if self._is_over(stamp_ns):
            return
        self._spend(stamp_ns)
        self._rung = move.after
        self._events.append(LadderEvent(stamp_ns, move))

    def take_diagnostics(self, values: Mapping[str, str], *, now_ns: int) -> None:
        """Take the node's diagnostics: `chunks_VERDICT` counts the chunks with that verdict since its start."""
        counts = Counter(
            {verdict: int(values.get(f"chunks_{verdict.name.lower()}", 0)) for verdict in Verdict}
        )
        self.counted_ns = now_ns
        new = counts - self._counts
        self._counts = counts
        if new:
            self._events.append(VerdictCountEvent(now_ns, dict(new)))

    def take_command(self, stamp_ns: int, positions: npt.NDArray[np.float64]) -> None:
        """Take a command, float64 [N], all joints of the robot, that the node would have sent at `stamp_ns` [ns]."""
        if self._rung_since_ns is None or self._is_over(stamp_ns):
            return
        if self._last_ns is not None and stamp_ns - self._last_ns > GAP_TICKS * self._tick_ns:
            self._due.append(self._last_ns + self._tick_ns + self._lead_ns)
            self._positions.append(self._nothing)
        self._last_ns = stamp_ns
        self._due.append(stamp_ns + self._lead_ns)
        self._positions.append(positions)

    def take_events(self, now_ns: int) -> list[SafetyEvent]:
        """Return what happened since the last call, commands first."""
        events, self._events = self._events, []
        self._spend(now_ns)
        rungs = {rung: spent // self._tick_ns for rung, spent in self._rung_ns.items()}
        if self._due or any(rungs.values()):
            for rung, ticks in rungs.items():
                self._rung_ns[rung] -= ticks * self._tick_ns
            due_ns = np.array(self._due, dtype=np.int64)
            positions = np.stack(self._positions) if self._positions else np.empty((0, len(self._nothing)))
            self._due, self._positions = [], []
            events.insert(0, CommandEvent(now_ns, due_ns, positions, rungs))
        return events

    def _is_over(self, stamp_ns: int) -> bool:
        return self._end_ns is not None and stamp_ns > self._end_ns

    def _spend(self, until_ns: int) -> None:
        """Add the time since the last call to the present rung."""
        if self._end_ns is not None:
            until_ns = min(until_ns, self._end_ns)
        if self._rung_since_ns is not None and until_ns > self._rung_since_ns:
            self._rung_ns[self._rung] += until_ns - self._rung_since_ns
            self._rung_since_ns = until_ns
