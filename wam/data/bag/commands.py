# SPDX-License-Identifier: Apache-2.0
"""Recorded commands as samples over time: joint states as they are, trajectories as far as they were followed.

Of a controller's state, the reference counts: what it was told. Arrays and single numbers name no joints; the robot
file does, or the user. A gripper's command, which is sent once, stays in force until the next one.

A trajectory is followed from its first point to the first point of the next trajectory; points that were replaced do
not count as commanded. Between the points of a trajectory, samples are interpolated as its controller does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.data.bag import gripper_actions
from wam.data.bag.stamps import BagMessage
from wam.data.bag.topics import (
    CONTROLLER_STATE,
    FLOAT64,
    FLOAT64_ARRAY,
    GRIPPER_COMMAND,
    JOINT_STATE,
    JOINT_TRAJECTORY,
)

COMMAND_TYPES = (
    JOINT_STATE,
    JOINT_TRAJECTORY,
    FLOAT64_ARRAY,
    FLOAT64,
    CONTROLLER_STATE,
    GRIPPER_COMMAND,
    *gripper_actions.GOAL_TYPES,
    *gripper_actions.FEEDBACK_TYPES,
)
"""Types of messages that are taken as commands."""

STAYS = (GRIPPER_COMMAND, *gripper_actions.GOAL_TYPES, *gripper_actions.FEEDBACK_TYPES)
"""Types that are sent when something changes: a command stays in force until the next one."""

Row = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CommandSample:
    """Joint positions that were commanded for one time.

    Attributes:
        time_ns: the time [ns].
        names: joints, as named in the message; empty where it names none.
        positions: float64 [N], in the units of the message; of another length than `names` if the message is damaged.
    """

    time_ns: int
    names: tuple[str, ...]
    positions: Row


class CommandReader:
    """Reads the commands of one topic, in order.

    Args:
        msgtype: one of `COMMAND_TYPES`.
        step_ns: largest time between two samples of a trajectory [ns].
        use_stamps: False uses the time of delivery instead of header stamps.
    """

    def __init__(self, msgtype: str, *, step_ns: int, use_stamps: bool = True) -> None:
        self._msgtype = msgtype
        self._step_ns = step_ns
        self._use_stamps = use_stamps
        self._pending: list[CommandSample] = []

    def take(self, message: BagMessage) -> list[CommandSample]:
        """Return the samples that this message completes."""
        stamp_ns = (message.stamp_ns if self._use_stamps else None) or message.time_ns
        content = message.message
        if self._msgtype != JOINT_TRAJECTORY:
            told = _READ[self._msgtype](content)
            if told is None:
                return []
            names, positions = told
            sample = CommandSample(stamp_ns, names, np.asarray(positions, dtype=np.float64))
            if self._msgtype not in STAYS:
                return [sample]
            before = self._until(stamp_ns)
            self._pending = [sample]
            return [*before, sample]
        fresh = list(_samples(content, stamp_ns, self._step_ns))
        # An empty trajectory stops the controller at its present position.
        start_ns = fresh[0].time_ns if fresh else stamp_ns
        followed = [sample for sample in self._pending if sample.time_ns < start_ns]
        self._pending = fresh
        return followed

    def rest(self, end_ns: int) -> list[CommandSample]:
        """Return the samples of the last trajectory or command, at the end of the recording [ns]."""
        rest = self._until(end_ns) if self._msgtype in STAYS else self._pending
        self._pending = []
        return rest

    def _until(self, end_ns: int) -> list[CommandSample]:
        """Return the command that stays in force, again and again from its own time until before `end_ns` [ns]."""
        return [
            replace(sample, time_ns=time_ns)
            for sample in self._pending
            for time_ns in range(sample.time_ns + self._step_ns, end_ns, self._step_ns)
        ]


def _controller_state(content: Any) -> tuple[tuple[str, ...], Any]:
    """Return names and reference positions; releases before 2023 call the reference "desired"."""
    told = content.reference if hasattr(content, "reference") else content.desired
    return tuple(content.joint_names), told.positions


_READ: dict[str, Callable[[Any], tuple[tuple[str, ...], Any] | None]] = {
    JOINT_STATE: lambda content: (tuple(content.name), content.position),
    FLOAT64_ARRAY: lambda content: ((), content.data),
    FLOAT64: lambda content: ((), [content.data]),
    GRIPPER_COMMAND: lambda content: ((), [content.position]),
    CONTROLLER_STATE: _controller_state,
    **gripper_actions.READ,
}


def _samples(content: Any, stamp_ns: int, step_ns: int) -> Iterator[CommandSample]:
    names = tuple(content.joint_names)
    before: tuple[int, Row] | None = None
    for point in content.points:
        from_start = point.time_from_start
        time_ns = stamp_ns + int(from_start.sec) * NS_PER_S + int(from_start.nanosec)
        positions = np.asarray(point.positions, dtype=np.float64)
        if before is not None and len(before[1]) == len(positions) and time_ns > before[0]:
            parts = -(-(time_ns - before[0]) // step_ns)
            for part in range(1, parts):
                share = part / parts
                between_ns = before[0] + round(share * (time_ns - before[0]))
                yield CommandSample(between_ns, names, before[1] + share * (positions - before[1]))
        yield CommandSample(time_ns, names, positions)
        before = (time_ns, positions)
