# SPDX-License-Identifier: Apache-2.0
"""Waits for a remote collision checker without delaying the command stream. No rclpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.chunk.action_chunk import ActionChunk
from wam.core.safety.collision import (
    CheckerSilent,
    RemoteChecker,
    contact_finding,
    thin_out,
    with_room_to_stop,
)
from wam.core.safety.limits import JointLimits
from wam.core.verdict import Finding, Verdict
from wam.runtime.safety.intake import Executing

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Passed:
    """A motion that every check has passed.

    Attributes:
        executing: what is executed from now on.
        chunk: where it comes from.
        arrival_ns: when that arrived [ns].
        ticks: ticks of it that went by during the check.
    """

    executing: Executing
    chunk: ActionChunk
    arrival_ns: int
    ticks: int = 0


class RemoteGate:
    """One motion at a time goes to the checker; meanwhile the arm follows the previous one.

    Args:
        remote: the checker, or None: motions pass at once.
        budget_ns: it must answer within this time [ns].
        tick_ns: time between two steps [ns].
        limits: of all joints, for the room in which they stop.
    """

    def __init__(
        self, remote: RemoteChecker | None, *, budget_ns: int, tick_ns: int, limits: JointLimits
    ) -> None:
        self._remote = remote
        self._limits = limits
        self._budget_ns = budget_ns
        self._tick_ns = tick_ns
        self._pending: Passed | None = None
        self._ticks = 0

    @property
    def waiting(self) -> bool:
        """Whether a motion is being checked."""
        return self._pending is not None

    def forget(self) -> None:
        """Drop the motion that is being checked."""
        self._pending = None

    def submit(self, motion: Passed, *, position: Vector) -> Passed | Finding | None:
        """Send `motion` to the checker; return it where there is none, a finding where the checker is gone, else None.

        Args:
            motion: passed by the chain.
            position: float64 [N], newest command.
        """
        if self._remote is None:
            return motion
        reference = motion.executing.reference
        rows = np.concatenate((position[None], reference.positions))
        rows = with_room_to_stop(rows, period_ns=reference.period_ns, limits=self._limits)
        try:
            self._remote.submit(thin_out(rows))
        except CheckerSilent as error:
            return Finding(Verdict.HOLD, "no_collision_answer", str(error))
        self._pending, self._ticks = motion, 0
        return None

    def poll(self, ticks: int) -> Passed | Finding | None:
        """Return the motion found free of contact, a finding that refuses it, or None while there is no answer.

        Args:
            ticks: ticks since the last call.
        """
        pending, remote = self._pending, self._remote
        if pending is None or remote is None:
            return None
        self._ticks += max(1, ticks)
        waited_ns = self._ticks * self._tick_ns
        try:
            answer = remote.poll()
        except CheckerSilent as error:
            self._pending = None
            return Finding(Verdict.HOLD, "no_collision_answer", str(error))
        if answer is None and waited_ns <= self._budget_ns:
            return None
        self._pending = None
        if answer is None:
            value, limit = waited_ns * 1e-9, self._budget_ns * 1e-9
            text = f"{remote.name} has not answered for {value:.3f} s, allowed {limit:.3f} s (moveit_budget)"
            return Finding(Verdict.HOLD, "no_collision_answer", text, "", value, limit)
        if answer.contact is not None:
            return contact_finding(answer.contact, by=remote.name)
        # The tick of this call is still to come.
        return Passed(pending.executing, pending.chunk, pending.arrival_ns, self._ticks - 1)
