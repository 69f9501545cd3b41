# SPDX-License-Identifier: Apache-2.0
"""Driver twins of a Franka arm and its hand: reflexes, the user stop, the way back, and goals that block."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wam.devices.controllers import StreamDriver, TrajectoryDriver
from wam.devices.franka.arm import FrankaMode
from wam.devices.franka.hand import MAX_FORCE, MAX_WIDTH
from wam.devices.franka.manager import ControllerManager, HardwareState
from wam.devices.franka.recovery import BROADCASTERS, HARDWARE
from wam.devices.jtc import ControllerOptions
from wam.devices.twin import FAULT, DriverAnswer, JointFeedback, MeasuredJoints, Vector
from wam.robots.description import JointGroup
from wam.robots.twin_spec import CommandInterface

ACCELERATION = 10.0
"""Largest acceleration of a commanded position, all joints [rad/s^2] (libfranka, rate_limiting.h)."""

JERK = 5000.0
"""Largest jerk of a commanded position, all joints [rad/s^3] (the same)."""

ROUNDING = 1e-6
"""Share of a limit by which it may be exceeded: the arithmetic of differences over a millisecond."""

RECOVERY, ACTIVATE = "error_recovery", "activate"
USER_STOP, USER_RELEASE, LOSE_LINK = "user_stop", "user_release", "lose_link"
COMMUNICATION = "communication_constraints_violation"


class FrankaDriver(TrajectoryDriver):
    """franka_ros2 before an arm: IDLE without a controller, MOVE with one, REFLEX until it is recovered.

    A reflex, a lost link and the user stop end the control of the arm: its hardware component is unconfigured until it
    is brought back through the services of `manager`, and commands reach the arm again once the trajectory controller
    has been activated on active hardware. While nothing reads the hardware, the last state is repeated.

    With the position interface every command is differentiated over the driver's millisecond; one that is too fast, or
    asks for more acceleration or jerk than the arm has, trips a reflex. A step of 1e-5 rad is enough. With the effort
    interface a command is a torque, which the robot limits itself, and nothing trips.

    Args:
        group: the arm's joints, each with `servo` at the hardware's speed; `twin.interface` says what is written.
        options: parameters of the controller.

    Attributes:
        manager: the controller_manager.
    """

    def __init__(self, group: JointGroup, options: ControllerOptions | None = None) -> None:
        super().__init__(group, options)
        self._position_mode = group.twin.interface is CommandInterface.POSITION
        self._speed = np.array([joint.servo.speed for joint in group.joints if joint.servo is not None])
        self._lower = np.array([joint.lower for joint in group.joints])
        self._upper = np.array([joint.upper for joint in group.joints])
        self._last_velocity = np.zeros(len(group.joints))
        self._last_acceleration = np.zeros(len(group.joints))
        self._errors: tuple[str, ...] = ()
        self._last_errors: tuple[str, ...] = ()
        self._user_stopped = False
        self._arm = group.command_topic.rpartition("/")[0]
        self.manager = ControllerManager(
            self._arm,
            [f"{name}/{group.twin.interface.value}" for name in group.driver_names],
            stops_with_hardware=options is None or options.stops_with_hardware,
        )
        self._told: Mapping[str, str | float] = {}
        self._reported: JointFeedback | None = None

    @property
    def mode(self) -> FrankaMode:
        """`robot_mode` of franka_msgs/FrankaRobotState, whether or not anybody is told."""
        if self._user_stopped:
            return FrankaMode.USER_STOPPED
        if self._errors:
            return FrankaMode.REFLEX
        return FrankaMode.MOVE if self.manager.controls and self._enabled else FrankaMode.IDLE

    @property
    def errors(self) -> tuple[str, ...]:
        """Names of the current errors, as in franka_msgs/Errors."""
        return self._errors

    @property
    def modes(self) -> Mapping[str, str | float]:
        """Fields of franka_msgs/FrankaRobotState that matter, as they were when the hardware was read last."""
        if self.manager.fresh or not self._told:
            self._told = {
                "robot_mode": int(self.mode),
                "control_command_success_rate": 1.0 if self.mode is FrankaMode.MOVE else 0.0,
                "current_errors": ", ".join(self._errors),
                "last_motion_errors": ", ".join(self._last_errors),
            }
        return self._told

    @property
    def reports(self) -> bool:
        """Whether the broadcasters are active."""
        return self.manager.reports

    @property
    def follows(self) -> bool:
        """Whether the arm is controlled; a controller may be active without."""
        return self.mode is FrankaMode.MOVE

    @property
    def deactivated(self) -> str:
        """Why the controller accepts no trajectories, or "" while it is active, whether or not it reaches the arm."""
        if not self.manager.active(self._arm):
            errors = f" after {', '.join(self._last_errors)}" if self._last_errors else ""
            return f"{self._arm} is inactive{errors}"
        return super().deactivated

    def request(self, name: str, *, measured: Vector) -> DriverAnswer:
        """Answer one of these.

        "error_recovery"; "activate": hardware and controllers, for want of controller_manager_msgs; "fault": a
        collision reflex; "lose_link": packets are missing; "user_stop" and "user_release": the activation device.
        """
        if name in (FAULT, LOSE_LINK):
            self._trip("cartesian_reflex" if name == FAULT else COMMUNICATION)
            return DriverAnswer(True, f"{', '.join(self._errors)}: the arm stands until the error recovery")
        if name == USER_STOP:
            self._user_stopped = True
            self._end_control()
            return DriverAnswer(True, "the external activation device is pressed")
        if name == USER_RELEASE:
            self._user_stopped = False
            return DriverAnswer(True, "released: the hardware and its controllers are still to be activated")
        if name == RECOVERY:
            if self._user_stopped:
                return DriverAnswer(False, "the external activation device is pressed")
            recovered, self._errors = self._errors, ()
            return DriverAnswer(True, "recovered" if recovered else "there is no error")
        if name == ACTIVATE:
            return self._activate(measured)
        return super().request(name, measured=measured)

    def switch(self, activate: Sequence[str], deactivate: Sequence[str]) -> DriverAnswer | None:
        """Switch controllers; see `ControllerManager.switch`. The arm's holds the state that was read last."""
        if self._arm in activate and self.mode in (FrankaMode.REFLEX, FrankaMode.USER_STOPPED):
            return DriverAnswer(False, f"Could not activate controller: robot mode {self.mode.name.lower()}")
        before = self.manager.active(self._arm) and self._arm not in deactivate
        answer = self.manager.switch(activate, deactivate)
        if self.manager.active(self._arm) and not before:
            self.hold(self._measured.positions)
        return answer

    def observe(self, measured: MeasuredJoints) -> None:
        """Take the measured state, as long as the hardware is read."""
        if self.manager.fresh:
            super().observe(measured)

    def feedback(self, measured: MeasuredJoints) -> JointFeedback:
        """Return what the joint_state_broadcaster publishes: the last state that was read."""
        if self.manager.fresh or self._reported is None:
            self._reported = super().feedback(measured)
        return self._reported

    def hold(self, position: Vector) -> None:
        """Discard the trajectory and hold `position`, float64 [N]; differences of commands start afresh."""
        super().hold(position)
        self._last_velocity[:] = self._last_acceleration[:] = 0.0

    def passes(self, position: Vector, dt: float) -> bool:
        """Return whether the robot accepts the command of one cycle of `dt` [s]; if not, trip the reflex."""
        if self._errors or not self.manager.controls:
            return False
        if not self._position_mode:
            return True
        velocity = (position - self._sent) / dt
        acceleration = (velocity - self._last_velocity) / dt
        jerk = (acceleration - self._last_acceleration) / dt
        prefix, slack = "joint_motion_generator", 1.0 + ROUNDING
        if np.any((position < self._lower) | (position > self._upper)):
            self._trip(f"{prefix}_position_limits_violation")
        elif np.any(np.abs(velocity) > self._speed * slack):
            self._trip(f"{prefix}_velocity_limits_violation")
        elif np.any(np.abs(acceleration) > ACCELERATION * slack):
            self._trip(f"{prefix}_velocity_discontinuity")
        elif np.any(np.abs(jerk) > JERK * slack):
            self._trip(f"{prefix}_acceleration_discontinuity")
        self._last_velocity, self._last_acceleration = velocity, acceleration
        return not self._errors

    def _trip(self, error: str) -> None:
        self._errors = self._last_errors = (error,)
        self._end_control()

    def _end_control(self) -> None:
        self.manager.on_error()
        # The brakes hold the arm where it was commanded last; a controller that stays active goes on without it.
        if not self.manager.active(self._arm):
            self._controller.hold(self._sent)
        self._line.reset((self._sent.copy(), np.zeros_like(self._sent)))

    def _activate(self, measured: Vector) -> DriverAnswer:
        mine = (*BROADCASTERS, self._arm)
        asks: tuple[Callable[[], DriverAnswer | None], ...] = (
            lambda: self.manager.set_hardware(HARDWARE, HardwareState.INACTIVE),
            lambda: self.switch((), mine),
            lambda: self.manager.set_hardware(HARDWARE, HardwareState.ACTIVE),
            lambda: self.switch(mine, ()),
        )
        for ask in asks:
            answer = ask()
            if answer is None or not answer.ok:
                return answer or DriverAnswer(False, "the controller_manager does not answer")
        self.hold(measured)
        return DriverAnswer(True, "the controller is active and holds the measured position")


class GoalKind(enum.Enum):
    """Actions of the gripper's node."""

    MOVE = "move"
    GRASP = "grasp"
    HOMING = "homing"
    GRIPPER_ACTION = "gripper_action"


@dataclass(frozen=True, slots=True)
class GripperGoal:
    """A goal of the gripper's node.

    Attributes:
        kind: which action.
        width: whole opening wanted [m]; of gripper_action twice the position in its message.
        speed: of the opening [m/s].
        force: of a grasp [N].
        inner: how much narrower than `width` a grasped object may be [m].
        outer: how much wider [m].
    """

    kind: GoalKind
    width: float = 0.0
    speed: float = 0.1
    force: float = MAX_FORCE
    inner: float = 0.005
    outer: float = 0.005


class GripperDriver(StreamDriver):
    """franka_gripper: one goal at a time, which blocks; beside it the stream of the suite's own adapter.

    A goal ends when the fingers have stopped: a move succeeds at its width, a grasp within its tolerance of it. Joint
    states name both fingers, each at half the opening; velocity and effort are always zero.

    Args:
        group: one joint, half the opening, which two fingers of the model follow.
    """

    STILL = 2e-3
    """A finger slower than this has stopped [m/s]."""

    NEAR = 1e-3
    """Distance of the opening from its target at which a move has arrived [m]."""

    PATIENCE_NS = 300_000_000
    """A goal is not judged to have ended earlier than this after it began [ns]."""

    def __init__(self, group: JointGroup) -> None:
        super().__init__(group)
        self._goal: GripperGoal | None = None
        self._goal_ns = 0
        self._full_speed = self._speed.copy()
        self._force = 1.0
        self._fingers = tuple(joint.name for joint in group.joints[0].model_joints) or group.driver_names

    @property
    def force_fractions(self) -> Vector:
        """Share of the servo's force that the last grasp asked for, float64 [1]."""
        return np.full(1, self._force)

    @property
    def busy(self) -> bool:
        """Whether a goal is being executed."""
        return self._goal is not None

    def start(self, goal: GripperGoal) -> DriverAnswer:
        """Begin a goal; it does not end one that is running."""
        if self._goal is not None:
            return DriverAnswer(
                False, f"{self._goal.kind.value} is being executed; a goal does not end another"
            )
        if not (0.0 <= goal.width <= MAX_WIDTH and goal.speed > 0.0 and 0.0 <= goal.force <= MAX_FORCE):
            return DriverAnswer(
                False,
                f"width {goal.width:g} m (0..{MAX_WIDTH}), speed {goal.speed:g} m/s (> 0), "
                f"force {goal.force:g} N (0..{MAX_FORCE:g})",
            )
        width = MAX_WIDTH if goal.kind is GoalKind.HOMING else goal.width
        grasp = goal.kind is GoalKind.GRASP
        closing = grasp or (goal.kind is GoalKind.GRIPPER_ACTION and width < 2.0 * float(self._setpoint[0]))
        self._speed = np.minimum(self._full_speed, goal.speed / 2)
        self._force = max(goal.force / MAX_FORCE, 0.05) if closing else 1.0
        # A grasp closes until something stops the fingers; its width is what counts as the right object.
        self._target = np.clip(np.full(1, 0.0 if grasp else width / 2), self._lower, self._upper)
        self._line.reset(self._target)
        self._goal, self._goal_ns = goal, self._elapsed_ns
        return DriverAnswer(True, goal.kind.value)

    def stop(self, measured: Vector) -> DriverAnswer:
        """Hold the fingers at `measured`, float64 [1], and end the goal."""
        self._goal = None
        self._target = np.clip(measured, self._lower, self._upper)
        self._setpoint = self._target.copy()
        self._line.reset(self._target)
        return DriverAnswer(True, "stopped")

    def result(self, measured: MeasuredJoints) -> DriverAnswer | None:
        """Return how the goal ended, or None while it is being executed."""
        goal = self._goal
        if goal is None or self._elapsed_ns - self._goal_ns < self.PATIENCE_NS:
            return None
        if abs(float(measured.velocities[0])) > self.STILL or not np.allclose(self._setpoint, self._target):
            return None
        self._goal = None
        width = 2.0 * float(measured.positions[0])
        if goal.kind is GoalKind.GRASP:
            ok = goal.width - goal.inner < width < goal.width + goal.outer
        else:
            ok = abs(width - 2.0 * float(self._target[0])) < self.NEAR or goal.kind is GoalKind.GRIPPER_ACTION
        return DriverAnswer(ok, f"opening {width:.4f} m")

    def request(self, name: str, *, measured: Vector) -> DriverAnswer:
        """Answer "stop"."""
        return self.stop(measured) if name == "stop" else super().request(name, measured=measured)

    def feedback(self, measured: MeasuredJoints) -> JointFeedback:
        """Return both fingers."""
        half = float(measured.positions[0])
        zeros = tuple(0.0 for _ in self._fingers)
        return JointFeedback(self._fingers, tuple(half for _ in self._fingers), zeros, zeros)
