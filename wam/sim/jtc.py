# SPDX-License-Identifier: Apache-2.0
"""Twin of joint_trajectory_controller (ros2_controllers, released versions): what it takes, and what it commands.

Rules are those of its source for a position command: a message replaces all that was there; segments are linear, cubic
or quintic by what both of their ends carry; nothing is limited. A message that it does not accept is dropped and the
former trajectory goes on. Pure: no rclpy, time is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.errors import JointError

Vector = npt.NDArray[np.float64]

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class TrajectoryPoint:
    """One point of a message, as it came; an empty field is one that was left out.

    Attributes:
        time_ns: time from start [ns].
        positions: one per joint of the message [rad or m].
        velocities: one per joint, or empty.
        accelerations: one per joint, or empty.
    """

    time_ns: int
    positions: Sequence[float]
    velocities: Sequence[float] = ()
    accelerations: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A trajectory_msgs/JointTrajectory.

    Attributes:
        names: joints, in any order.
        points: points.
        stamp_ns: start [ns]; 0 starts at reception.
    """

    names: Sequence[str]
    points: Sequence[TrajectoryPoint]
    stamp_ns: int = 0


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """Parameters of the controller.

    Attributes:
        interpolate_from_desired_state: a new trajectory starts at the last command, not at the measured state.
        allow_nonzero_velocity_at_trajectory_end: default of Humble; later distributions refuse.
        trajectory_tolerance: distance from the measured state at which it gives up and holds [rad]; inf for none.
        cmd_timeout_ns: time after the end of a trajectory after which it holds the measured position [ns]; 0 for never.
    """

    interpolate_from_desired_state: bool = True
    allow_nonzero_velocity_at_trajectory_end: bool = False
    trajectory_tolerance: float = float("inf")
    cmd_timeout_ns: int = 0


@dataclass(frozen=True, slots=True)
class _Knot:
    time_ns: int
    position: Vector
    velocity: Vector | None
    acceleration: Vector | None


class TrajectoryController:
    """The controller of one arm. One thread at a time.

    Args:
        joints: names, in the order of the vectors.
        position: where it holds at first, float64 [N].
        options: its parameters.
        topic: for error texts.
    """

    def __init__(
        self,
        joints: Sequence[str],
        position: Vector,
        *,
        options: ControllerOptions | None = None,
        topic: str = "joint_trajectory",
    ) -> None:
        self._joints = tuple(joints)
        self._options = options or ControllerOptions()
        self._topic = topic
        self._knots: list[_Knot] = []
        self._hold(position)
        self.speed_scaling = 1.0
        self._scaled_ns = 0.0
        self.gave_up = False

    @property
    def reference(self) -> tuple[Vector, Vector]:
        """Position and velocity commanded last, float64 [N] each."""
        return self._position.copy(), self._velocity.copy()

    def accept(self, trajectory: Trajectory, *, now_ns: int, measured: Vector, velocity: Vector) -> None:
        """Take a message at `now_ns` [ns] of the clock that its stamp is of; it replaces what is there.

        Args:
            trajectory: the message.
            now_ns: present time [ns].
            measured: measured positions, float64 [N].
            velocity: measured velocities, float64 [N].

        Raises:
            JointError: the controller does not accept it; the former trajectory goes on.
        """
        order = self._order(trajectory)
        self._check(trajectory, now_ns)
        start_ns = self._scaled_ns + (trajectory.stamp_ns - now_ns if trajectory.stamp_ns else 0)
        if self._options.interpolate_from_desired_state:
            begin = _Knot(round(self._scaled_ns), self._position, self._velocity, self._acceleration)
        else:
            begin = _Knot(round(self._scaled_ns), measured.copy(), velocity.copy(), np.zeros_like(measured))
        self._knots = [begin]
        for point in trajectory.points:
            at = _Knot(
                round(start_ns) + point.time_ns,
                _column(point.positions, order),
                _column(point.velocities, order) if len(point.velocities) else None,
                _column(point.accelerations, order) if len(point.accelerations) else None,
            )
            # A point that is already due replaces the state at hand: nothing is blended.
            if at.time_ns <= begin.time_ns:
                self._knots = [at]
            else:
                self._knots.append(at)
        self.gave_up = False

    def advance(self, dt_ns: int, measured: Vector) -> Vector:
        """Let `dt_ns` [ns] pass, times the robot's speed scaling, and return the command, float64 [N]."""
        self._scaled_ns += dt_ns * self.speed_scaling
        now = self._scaled_ns
        if len(self._knots) > 1:
            self._sample(now)
        elif self._knots:
            self._sample(max(now, self._knots[0].time_ns))
        if self._knots and np.any(np.abs(self._position - measured) > self._options.trajectory_tolerance):
            # "Holding position due to state tolerance violation": the publisher is told nothing.
            self.gave_up = True
            self._hold(measured)
        elif (
            self._knots
            and self._options.cmd_timeout_ns
            and now > self._knots[-1].time_ns + self._options.cmd_timeout_ns
        ):
            self._hold(measured)
        return self._position.copy()

    def hold(self, position: Vector) -> None:
        """Forget the trajectory and hold `position`, float64 [N], as on activation."""
        self._hold(position)

    def _hold(self, position: Vector) -> None:
        self._knots = []
        self._position = np.array(position, dtype=np.float64)
        self._velocity = np.zeros_like(self._position)
        self._acceleration = np.zeros_like(self._position)

    def _sample(self, now: float) -> None:
        last = self._knots[-1]
        if now >= last.time_ns:
            self._position = last.position.copy()
            self._velocity = np.zeros_like(last.position) if last.velocity is None else last.velocity.copy()
            self._acceleration = np.zeros_like(last.position)
            return
        at = next(i for i, knot in enumerate(self._knots) if knot.time_ns > now)
        if at == 0:
            return
        begin, end = self._knots[at - 1], self._knots[at]
        self._position, self._velocity, self._acceleration = interpolate(
            begin, end, (now - begin.time_ns) / NS_PER_S, (end.time_ns - begin.time_ns) / NS_PER_S
        )

    def _order(self, trajectory: Trajectory) -> list[int]:
        names = list(trajectory.names)
        if sorted(names) != sorted(self._joints):
            raise self._refused("joint names", names, f"each of {', '.join(self._joints)} once, in any order")
        return [names.index(name) for name in self._joints]

    def _check(self, trajectory: Trajectory, now_ns: int) -> None:
        points, width = trajectory.points, len(self._joints)
        if not points:
            raise self._refused(
                "an empty trajectory", 0, "at least one point; an empty message stops nothing"
            )
        for i, point in enumerate(points):
            if len(point.positions) != width:
                raise self._refused(f"positions of point {i}", len(point.positions), f"{width}")
            for label, values in (("velocities", point.velocities), ("accelerations", point.accelerations)):
                if len(values) not in (0, width):
                    raise self._refused(f"{label} of point {i}", len(values), f"{width} or none")
            everything = [*point.positions, *point.velocities, *point.accelerations]
            if not np.all(np.isfinite(everything)):
                raise self._refused(f"a value of point {i} that is not finite", everything, "finite numbers")
            if i and point.time_ns <= points[i - 1].time_ns:
                raise self._refused(
                    f"time_from_start of point {i}", point.time_ns, f"more than {points[i - 1].time_ns} ns"
                )
        last = points[-1]
        if not self._options.allow_nonzero_velocity_at_trajectory_end and any(
            abs(value) > np.finfo(np.float32).eps for value in last.velocities
        ):
            raise self._refused("velocity of the last point", list(last.velocities), "zero")
        if trajectory.stamp_ns and trajectory.stamp_ns + last.time_ns < now_ns:
            raise self._refused(
                "a trajectory that ends in the past", trajectory.stamp_ns, "stamp 0, or a later end"
            )

    def _refused(self, what: str, value: object, allowed: str) -> JointError:
        return JointError(
            f"trajectory on {self._topic} refused: {what}",
            value=value,
            allowed=allowed,
            where="the node that publishes commands",
        )


def interpolate(begin: _Knot, end: _Knot, t: float, duration: float) -> tuple[Vector, Vector, Vector]:
    """Return position, velocity and acceleration at `t` [s] of a segment of `duration` [s], float64 [N] each.

    The polynomial that meets what both ends carry: linear, cubic Hermite or quintic Hermite.
    """
    p0, p1, d = begin.position, end.position, duration
    if begin.velocity is None or end.velocity is None:
        slope = (p1 - p0) / d
        return p0 + slope * t, slope, np.zeros_like(p0)
    v0, v1, rise = begin.velocity, end.velocity, p1 - p0
    if begin.acceleration is None or end.acceleration is None:
        c2 = (3 * rise - (2 * v0 + v1) * d) / d**2
        c3 = (-2 * rise + (v0 + v1) * d) / d**3
        return (
            p0 + v0 * t + c2 * t**2 + c3 * t**3,
            v0 + 2 * c2 * t + 3 * c3 * t**2,
            2 * c2 + 6 * c3 * t,
        )
    a0, a1 = begin.acceleration, end.acceleration
    c3 = (20 * rise - (8 * v1 + 12 * v0) * d - (3 * a0 - a1) * d**2) / (2 * d**3)
    c4 = (-30 * rise + (14 * v1 + 16 * v0) * d + (3 * a0 - 2 * a1) * d**2) / (2 * d**4)
    c5 = (12 * rise - 6 * (v1 + v0) * d + (a1 - a0) * d**2) / (2 * d**5)
    return (
        p0 + v0 * t + a0 * t**2 / 2 + c3 * t**3 + c4 * t**4 + c5 * t**5,
        v0 + a0 * t + 3 * c3 * t**2 + 4 * c4 * t**3 + 5 * c5 * t**4,
        a0 + 6 * c3 * t + 12 * c4 * t**2 + 20 * c5 * t**3,
    )


def _column(values: Sequence[float], order: Sequence[int]) -> Vector:
    return np.array([values[i] for i in order], dtype=np.float64)
