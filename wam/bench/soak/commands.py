# SPDX-License-Identifier: Apache-2.0
"""Judges the commands of a run as a driver receives them, by their own differences, in constant memory."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wam.bench.attack.robot_file import read_judged_robot
from wam.robots.description import JointGroup
from wam.stack.samples import JointSample

Vector = npt.NDArray[np.float64]

GAP_TICKS = 1.5
"""Commands further apart than this many ticks do not follow each other."""

TOLERANCE = 1e-6
"""Share of a limit, or of a range, that rounding may take."""

WORST_KEPT = 20
"""Violations of a group that are described; all of them are counted."""


class GroupJudge:
    """Judges the command stream of one joint group.

    Differences are taken over consecutive commands. They begin anew after a silence, be it that of a node that was
    stopped or of a message that was lost on its way here, and when the driver was away: the stream may then begin anew
    where the arm is measured. A joint outside of its range may only come back.

    Args:
        group: whose commands they are.
        file: the robot file; limits are read from it, not through the suite's loader.

    Attributes:
        commands: commands so far.
        gaps: silences so far.
        worst_share: largest velocity, acceleration or jerk as a share of its limit.
        peak_speed: largest velocity as a share of its limit.
        violations: kind -> commands that violated a limit.
        described: the first violations in words.
        away: the driver is away: commands are not judged.
    """

    def __init__(self, group: JointGroup, file: Path) -> None:
        robot = read_judged_robot(file)
        columns = [robot.names.index(name) for name in group.joint_names]
        self._names = group.joint_names
        self._lower, self._upper = robot.lower[columns], robot.upper[columns]
        self._limits = (
            ("velocity", robot.velocity[columns]),
            ("acceleration", robot.acceleration[columns]),
            ("jerk", robot.jerk[columns]),
        )
        self._period_ns = round(1e9 / group.command_rate)
        self._last_ns = 0
        self._rows: list[Vector] = []
        self.commands = self.gaps = 0
        self.worst_share = self.peak_speed = 0.0
        self.violations: Counter[str] = Counter()
        self.described: list[str] = []
        self.away = False

    def take(self, sample: JointSample, _arrival_ns: int) -> None:
        """Judge the next command."""
        self.commands += 1
        position, step_ns = sample.positions, sample.stamp_ns - self._last_ns
        follows = 0 < step_ns <= GAP_TICKS * self._period_ns
        self.gaps += bool(self._rows) and not follows
        if self.away or not follows:
            self._rows = []
        self._last_ns = sample.stamp_ns
        if not np.isfinite(position).all():
            self._note("not_finite", int(np.argmax(~np.isfinite(position))), np.inf)
            self._rows = []
            return
        self._range(position)
        self._rows = [*self._rows[-3:], position]
        rows = np.array(self._rows)
        for word, limit in self._limits:
            rows = np.diff(rows, axis=0) / (self._period_ns * 1e-9)
            if not len(rows):
                break
            share = np.abs(rows[-1]) / limit
            self.worst_share = max(self.worst_share, float(share.max()))
            if word == "velocity":
                self.peak_speed = max(self.peak_speed, float(share.max()))
            if (share > 1.0 + TOLERANCE).any():
                self._note(word, int(share.argmax()), float(share.max()))

    def _range(self, position: Vector) -> None:
        margin = TOLERANCE * (self._upper - self._lower)
        lower, upper = self._lower - margin, self._upper + margin
        if self._rows:
            lower, upper = np.minimum(lower, self._rows[-1]), np.maximum(upper, self._rows[-1])
            outside = np.maximum(lower - position, position - upper)
            if (outside > 0.0).any():
                self._note("position", int(outside.argmax()), float(outside.max()))

    def _note(self, kind: str, joint: int, share: float) -> None:
        self.violations[kind] += 1
        if len(self.described) < WORST_KEPT:
            at = f"{self._last_ns * 1e-9:.2f} s"
            self.described.append(f"{kind} of {self._names[joint]} at {at}: {share:.6g} of what is allowed")
