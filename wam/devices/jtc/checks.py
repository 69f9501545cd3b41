# SPDX-License-Identifier: Apache-2.0
"""What joint_trajectory_controller looks at before it accepts a message. A topic's publisher is told nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wam.core.errors import JointError
from wam.devices.jtc.values import ControllerOptions, Trajectory

MAX_END_VELOCITY = float(np.finfo(np.float32).eps)
"""Largest velocity of a last point that counts as zero [rad/s or m/s]."""


def check(
    trajectory: Trajectory, *, joints: Sequence[str], options: ControllerOptions, now_ns: int, topic: str
) -> None:
    """Check a message that arrived at `now_ns` [ns].

    Raises:
        JointError: the controller drops it; the text says what it found and what it allows.
    """

    def refused(what: str, value: object, allowed: str) -> JointError:
        return JointError(
            f"trajectory on {topic} refused: {what}",
            value=value,
            allowed=allowed,
            where="the node that publishes commands",
        )

    names, points = list(trajectory.names), trajectory.points
    unknown = [name for name in names if name not in joints]
    partial = options.allow_partial_joints_goal
    if not names or unknown or len(set(names)) != len(names) or (len(names) != len(joints) and not partial):
        some = "some of" if partial else "each of"
        raise refused("joint names", names, f"{some} {', '.join(joints)} once, in any order")
    if not points:
        raise refused("an empty trajectory", 0, "at least one point; an empty message stops nothing")
    if not options.allow_nonzero_velocity_at_trajectory_end and any(
        abs(value) > MAX_END_VELOCITY for value in points[-1].velocities
    ):
        raise refused("velocity of the last point", list(points[-1].velocities), "zero")
    if trajectory.stamp_ns and trajectory.stamp_ns + points[-1].time_ns < now_ns:
        raise refused("a trajectory that ends in the past", trajectory.stamp_ns, "stamp 0, or a later end")
    for i, point in enumerate(points):
        if i and point.time_ns <= points[i - 1].time_ns:
            raise refused(
                f"time_from_start of point {i}", point.time_ns, f"more than {points[i - 1].time_ns} ns"
            )
        if len(point.positions) != len(names):
            raise refused(f"positions of point {i}", len(point.positions), f"{len(names)}")
        for label, values in (("velocities", point.velocities), ("accelerations", point.accelerations)):
            if len(values) not in (0, len(names)):
                raise refused(f"{label} of point {i}", len(values), f"{len(names)} or none")
        if len(point.efforts) and not options.effort_interface:
            raise refused(f"efforts of point {i}", len(point.efforts), "none without an effort interface")
        everything = [*point.positions, *point.velocities, *point.accelerations, *point.efforts]
        if not np.all(np.isfinite(everything)):
            raise refused(f"a value of point {i} that is not finite", everything, "finite numbers")
