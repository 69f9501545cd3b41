# SPDX-License-Identifier: Apache-2.0
"""Kicks that push the arms off an expert's path, so that its recording shows the way back.

A policy that has only seen an expert's own path has never seen the states that its own errors lead to. While a kick
lasts the drivers get the expert's targets plus a smooth bump; the recorded action stays the expert's (noise injection,
Laskey et al., "DART", arXiv 1703.09327).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.robots.description import JointKind, RobotDescription

Vector = npt.NDArray[np.float64]

SIZE = 0.06
"""Largest deflection of a joint at the peak [rad]: some centimetres at the hand."""

EVERY = 2.0
"""Mean time between the end of a kick and the start of the next [s]."""

LENGTHS = (0.6, 1.2)
"""Shortest and longest kick [s]."""

STREAM = 0x6B69636B
"""Keeps the kicks of a seed apart from the objects of the same seed."""


@dataclass(frozen=True, slots=True)
class Kick:
    """One push.

    Attributes:
        start: when it begins [s].
        length: how long it lasts [s].
        peak: float64 [N], deflection of every joint half-way [rad].
    """

    start: float
    length: float
    peak: Vector


class Kicks:
    """The kicks of one episode.

    Args:
        robot: whose arms are kicked; grippers, fingers and everything that is not in radians are left alone.
        seed: of the episode.
        until: no kick begins later [s].
    """

    def __init__(self, robot: RobotDescription, *, seed: int, until: float) -> None:
        random = np.random.default_rng([STREAM, seed])
        arm = np.array([joint.kind is JointKind.REVOLUTE and not joint.is_gripper for joint in robot.joints])
        limits = robot.limits()
        self._lower, self._upper = limits.lower, limits.upper
        kicks, time = [], random.exponential(EVERY)
        while time < until:
            length = float(random.uniform(*LENGTHS))
            kicks.append(Kick(time, length, np.where(arm, random.uniform(-SIZE, SIZE, len(arm)), 0.0)))
            time += length + random.exponential(EVERY)
        self.kicks = tuple(kicks)

    def pushed(self, positions: Vector, velocities: Vector, time: float) -> tuple[Vector, Vector]:
        """Return targets with the bump of `time` [s] on them, within the position limits.

        Args:
            positions: float64 [N] [rad or m].
            velocities: float64 [N], their rate of change.
            time: simulated time at which they are due [s].
        """
        for kick in self.kicks:
            phase = (time - kick.start) / kick.length
            if 0.0 < phase < 1.0:
                moved = positions + kick.peak * math.sin(math.pi * phase) ** 2
                rate = kick.peak * math.pi / kick.length * math.sin(2.0 * math.pi * phase)
                inside = (moved > self._lower) & (moved < self._upper)
                return np.clip(moved, self._lower, self._upper), np.where(inside, velocities + rate, 0.0)
        return positions, velocities
