# SPDX-License-Identifier: Apache-2.0
"""How far ahead the first point of a trajectory lies, so that its controller can join it to the one before."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.core.trajectory.rolling import RollingPlan

Vector = npt.NDArray[np.float64]

MAX_SEAM_NS = 190_000_000
"""No first point is kept further away than this [ns]: the path between is the controller's own."""

QUINTIC_PEAK = 10.0 / math.sqrt(3.0)
"""Peak acceleration of a quintic that moves by one within one second, at rest at both ends [1/s^2]."""

SHARE = 0.5
"""Share of the acceleration limit that joining may take; the motion itself needs the rest."""

WINDOW = 50
"""Sent trajectories whose lateness is remembered: two seconds at 25 Hz."""


class Seam:
    """Chooses the first point of each trajectory.

    A trajectory with stamp 0 begins when it arrives, so a delivery that varies by J shifts it by v J against the one
    before. The controller takes that up in its first segment, a quintic over D, which asks for 5.8 v J / D^2. D is the
    lead while deliveries are regular, and as long as the acceleration limit needs it where they are not. J is the
    largest of what the robot file expects and what the sender itself was late by.

    Args:
        lead_ns: D where nothing asks for more [ns].
        jitter_ns: variation of the delivery that the robot file expects [ns].
        acceleration: limits, float64 [N] [rad/s^2].
        period_ns: time between two trajectories [ns].
    """

    def __init__(self, *, lead_ns: int, jitter_ns: int, acceleration: Vector, period_ns: int) -> None:
        if period_ns <= 0 or not np.all(acceleration > 0):
            raise ValueError(f"period_ns is {period_ns}, acceleration {acceleration}; both must be positive")
        self._lead_ns, self._expected_ns, self._period_ns = lead_ns, jitter_ns, period_ns
        self._budget = SHARE * acceleration
        self._late_ns: deque[int] = deque(maxlen=WINDOW)
        self._last_ns: int | None = None

    @property
    def jitter_ns(self) -> int:
        """Variation of the delivery that is assumed [ns]."""
        return max(self._expected_ns, *self._late_ns, 0)

    def sent(self, now_ns: int) -> None:
        """Note that a trajectory leaves at `now_ns` [ns]."""
        if self._last_ns is not None and now_ns >= self._last_ns:
            self._late_ns.append(abs(now_ns - self._last_ns - self._period_ns))
        self._last_ns = now_ns

    def apply(self, plan: RollingPlan, columns: slice) -> RollingPlan:
        """Return `plan` without the points that are too near.

        Args:
            plan: points of all joints.
            columns: joints that the acceleration limits are of.
        """
        near = plan.times_ns <= MAX_SEAM_NS
        speed = np.abs(plan.velocities[near][:, columns]).max(axis=0, initial=0.0)
        jitter = self.jitter_ns / NS_PER_S
        need_ns = float(np.sqrt(QUINTIC_PEAK * speed * jitter / self._budget).max()) * NS_PER_S
        return plan.after(min(max(self._lead_ns, math.ceil(need_ns)), MAX_SEAM_NS))
