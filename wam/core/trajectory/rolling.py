# SPDX-License-Identifier: Apache-2.0
"""Rolling trajectories: the next moments of the command stream, ending at rest, so the arm stops when they cease."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wam.core.trajectory.follower import Follower
from wam.core.trajectory.reference import Reference

Vector = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float64]

HORIZON_NS = 300_000_000
"""Time of reference that a trajectory shows before its tail [ns]."""

POINT_NS = 50_000_000
"""Time between two points [ns]."""

MAX_TAIL_TICKS = 400
"""Ticks after which a tail that has not come to rest is a fault (4 s at 100 Hz)."""


class Leading(Protocol):
    """What a rolling trajectory is computed from: the safety cycle, between two of its steps."""

    @property
    def follower(self) -> Follower:
        """State of the command stream."""
        ...

    @property
    def reference(self) -> tuple[Reference | None, float]:
        """The reference of the follower and the index of its current sample; None while it stops or holds."""
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


class Rolling:
    """Runs a copy of the follower ahead: along the reference for `HORIZON_NS`, then to rest.

    The points are the very states that the stream will pass through, so a trajectory that replaces its predecessor
    continues it: the controller has to start from its own last reference (`interpolate_from_desired_state`), not from
    the measured state.

    Args:
        tick_ns: period of the follower [ns].
        lead_ns: time of the first point [ns].
    """

    def __init__(self, *, tick_ns: int, lead_ns: int) -> None:
        self._tick_ns = tick_ns
        self._lead_ns = lead_ns

    def plan(self, leading: Leading) -> RollingPlan:
        """Return the trajectory of the next moments."""
        follower = leading.follower.clone()
        reference, index = leading.reference
        every = max(1, POINT_NS // self._tick_ns)
        times, states = [self._lead_ns], [_state(follower)]
        ticks = 0
        ahead = 0 if reference is None else HORIZON_NS // self._tick_ns
        while True:
            ticks += 1
            if reference is not None and ticks <= ahead:
                rate = reference.tick_ns / reference.period_ns
                index = min(max(index, 0.0) + rate, float(reference.last))
                follower.step(*reference.at(index, rate=rate))
                resting = False
            else:
                follower.brake()
                resting = follower.at_rest()
            last = resting or ticks >= ahead + MAX_TAIL_TICKS
            if last or ticks % every == 0:
                times.append(self._lead_ns + ticks * self._tick_ns)
                states.append(_state(follower))
            if last:
                break
        positions, velocities, accelerations = (np.array(column) for column in zip(*states, strict=True))
        velocities[-1] = 0.0
        accelerations[-1] = 0.0
        return RollingPlan(np.array(times, dtype=np.int64), positions, velocities, accelerations)


def _state(follower: Follower) -> tuple[Vector, Vector, Vector]:
    return follower.position, follower.velocity, follower.acceleration
