# SPDX-License-Identifier: Apache-2.0
"""Rolling trajectories: the plan that is played, as a trajectory to rest, so that the arm stops when they cease."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wam.core.trajectory.player import Ahead

Vector = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float64]

POINT_NS = 50_000_000
"""Time between two points [ns]."""

MOST_POINTS = 100
"""A motion that is slowed to a hundredth takes a minute to its end: no more points than this, some 20 kB a message."""

NEAR_POINTS = 40
"""Points that keep their distance where there would be more: the rate may still be changing in these two seconds."""


class Leading(Protocol):
    """What a rolling trajectory is computed from: the safety cycle, between two of its steps."""

    def ahead(self) -> Ahead:
        """Return what will be emitted if nothing changes, up to rest."""
        ...


@dataclass(frozen=True, slots=True)
class RollingPlan:
    """Points of a trajectory; the last one is at rest.

    Attributes:
        times_ns: int64 [P], from the moment of sending, strictly increasing, the first one is the lead.
        positions: float64 [P, N].
        velocities: float64 [P, N]; the last row is zero.
        accelerations: float64 [P, N]; the last row is zero.
    """

    times_ns: npt.NDArray[np.int64]
    positions: Rows
    velocities: Rows
    accelerations: Rows

    def after(self, time_ns: int) -> RollingPlan:
        """Return the plan without its points earlier than `time_ns` [ns], for a controller that interpolates by itself.

        What is left out are states that the controller passes anyway; the last point, at rest, always stays.
        """
        kept = self.times_ns >= time_ns
        kept[-1] = True
        return RollingPlan(
            self.times_ns[kept], self.positions[kept], self.velocities[kept], self.accelerations[kept]
        )

    def in_time_of(self, share: float, *, first_ns: int) -> RollingPlan:
        """Return the plan for a controller whose time runs at `share` of the clock's, in (0, 1].

        Args:
            share: of the controller's time.
            first_ns: earliest time of the first point, in the controller's time [ns]; the others keep their distance.
        """
        times_ns = np.round(self.times_ns * share).astype(np.int64)
        return RollingPlan(
            times_ns + max(0, first_ns - int(times_ns[0])),
            self.positions,
            self.velocities / share,
            self.accelerations / share**2,
        )


class Rolling:
    """Makes the plan that is played a trajectory: all that is left of it, up to rest.

    The points are the very states that the stream will pass through, so a trajectory that replaces its predecessor
    continues it: the controller has to start from its own last reference (`interpolate_from_desired_state`), not from
    the measured state.

    Args:
        tick_ns: time between two commands [ns].
        lead_ns: time of the first point [ns].
    """

    def __init__(self, *, tick_ns: int, lead_ns: int) -> None:
        self._tick_ns = tick_ns
        self._lead_ns = lead_ns

    def plan(self, leading: Leading) -> RollingPlan:
        """Return the trajectory of the next moments."""
        ahead = leading.ahead()
        last = len(ahead.positions) - 1
        every = max(1, POINT_NS // self._tick_ns)
        ticks = np.arange(0, last + 1, every)
        if len(ticks) > MOST_POINTS:
            far = ticks[NEAR_POINTS:]
            ticks = np.append(ticks[:NEAR_POINTS], far[:: -(-len(far) // (MOST_POINTS - NEAR_POINTS - 1))])
        if ticks[-1] != last:
            ticks = np.append(ticks, last)
        return RollingPlan(
            self._lead_ns + ticks * self._tick_ns,
            ahead.positions[ticks],
            ahead.velocities[ticks],
            ahead.accelerations[ticks],
        )
