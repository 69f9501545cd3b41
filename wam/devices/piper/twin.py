# SPDX-License-Identifier: Apache-2.0
"""Driver twin of a Piper arm: missing joints go to zero, speed in percent, an emergency stop that drops the arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from wam.core.errors import ConfigError, JointError
from wam.devices.piper.arm import ArmStatus, ControlMode
from wam.devices.twin import DISABLE, ENABLE, FAULT, DriverAnswer, JointFeedback, MeasuredJoints, Vector
from wam.robots.description import JointGroup, JointKind

PIPER_MIN_EFFORT, PIPER_MAX_EFFORT, PIPER_DEFAULT_EFFORT = 0.5, 3.0, 1.0
"""Gripper effort that piper_ros accepts, and what it takes when none is given [N m]."""


class PiperDriver:
    """`piper_ctrl_single_node` of piper_ros, in front of one arm.

    Rules, as in the driver's source: a joint that the message does not name is commanded to ZERO; names that are not
    the arm's are ignored; a seventh velocity is the speed in percent (1..100, 100 when absent) and no velocity; a
    seventh effort is the gripper's torque (0.5..3 N m); targets outside the SDK's ranges are clipped; nothing is done
    while the arm is disabled; the last target is held for ever. Set-points move at most at the servo's speed. Its
    degrees are slightly off in both directions (`conversion` in the robot file). An emergency stop holds the arm where
    it is until a reset, which drops it: it has no brakes.

    Args:
        group: the arm's joints: six and the gripper, in this order.

    Raises:
        ConfigError: the group has other joints, or a joint has no `servo`.
    """

    def __init__(self, group: JointGroup) -> None:
        kinds = [joint.kind for joint in group.joints]
        if kinds != [JointKind.REVOLUTE] * 6 + [JointKind.PRISMATIC] or any(
            j.servo is None for j in group.joints
        ):
            raise ConfigError(
                f"group {group.name} does not fit a Piper driver",
                value=", ".join(group.driver_names),
                allowed="six revolute joints and a prismatic gripper, each with `servo`",
                where="the group's joints in the robot file",
            )
        self._group = group
        self._lower = np.array([joint.lower for joint in group.joints])
        self._upper = np.array([joint.upper for joint in group.joints])
        self._speed = np.array([joint.servo.speed for joint in group.joints if joint.servo is not None])
        self._target = np.array([joint.home for joint in group.joints])
        self._setpoint = self._target.copy()
        self._percent = 100.0
        self._effort = PIPER_DEFAULT_EFFORT
        self._enabled = True
        self._mode, self._status = ControlMode.STANDBY, ArmStatus.NORMAL

    @property
    def enabled(self) -> bool:
        """Whether the drives are on."""
        return self._enabled

    @property
    def setpoint(self) -> Vector:
        """Where the firmware wants the joints now, float64 [7]."""
        return self._setpoint.copy()

    @property
    def force_fractions(self) -> Vector:
        """Full force for the arm; the gripper's by the effort last commanded, float64 [7]."""
        fractions = np.ones(7)
        fractions[6] = self._effort / PIPER_MAX_EFFORT
        return fractions

    @property
    def setpoint_velocity(self) -> Vector | None:
        """None: the firmware's servos take positions."""
        return None

    @property
    def modes(self) -> Mapping[str, str | float]:
        """`ctrl_mode` and `arm_status` of piper_msgs/PiperStatusMsg."""
        return {"ctrl_mode": int(self._mode), "arm_status": int(self._status), "enabled": int(self._enabled)}

    def command(
        self,
        names: Sequence[str],
        positions: Sequence[float],
        velocities: Sequence[float],
        efforts: Sequence[float],
    ) -> None:
        """Take a command message; see the rules above.

        Raises:
            JointError: names and positions differ in number, or a value is not finite.
        """
        if len(names) != len(positions):
            raise JointError(
                f"command of group {self._group.name!r} (topic {self._group.command_topic})",
                value=f"{len(names)} names, {len(positions)} positions",
                allowed="one position per name",
                where="the node that publishes commands",
            )
        given = dict(zip(names, positions, strict=True))
        target = np.array([given.get(name, 0.0) for name in self._group.driver_names], dtype=np.float64)
        target /= self._group.command_factors
        percent = float(velocities[6]) if len(velocities) >= 7 else 100.0
        effort = float(efforts[6]) if len(efforts) >= 7 else PIPER_DEFAULT_EFFORT
        if not np.all(np.isfinite([*target, percent, effort])):
            raise JointError(
                f"command of group {self._group.name!r} (topic {self._group.command_topic}) is not finite",
                value=list(positions),
                allowed="finite numbers",
                where="the node that publishes commands",
            )
        if not self._enabled or self._status is ArmStatus.EMERGENCY_STOP:
            return
        self._mode = ControlMode.CAN
        self._target = np.clip(target, self._lower, self._upper)
        self._percent = min(max(percent, 1.0), 100.0)
        self._effort = min(max(effort, PIPER_MIN_EFFORT), PIPER_MAX_EFFORT)

    def enable(self, on: bool, *, measured: Vector) -> None:
        """Switch the drives; switched on, they hold where the joints are, float64 [7]."""
        if on and not self._enabled:
            self._target = np.clip(measured, self._lower, self._upper)
            self._setpoint = self._target.copy()
        self._enabled = on

    def request(self, name: str, *, measured: Vector) -> DriverAnswer:
        """Answer enable_srv ("enable", "disable"), reset_srv ("reset"), and "fault": an emergency stop."""
        if name == FAULT:
            self._status = ArmStatus.EMERGENCY_STOP
            self._target = self._setpoint.copy()
            return DriverAnswer(True, "emergency stop: the arm holds; reset_srv clears it and drops the arm")
        if name == "reset":
            self._mode, self._status = ControlMode.STANDBY, ArmStatus.NORMAL
            self.enable(False, measured=measured)
            return DriverAnswer(True, "reset: the drives are off")
        if name not in (ENABLE, DISABLE):
            return DriverAnswer(False, f"the Piper driver has no {name}")
        if name == ENABLE and self._status is ArmStatus.EMERGENCY_STOP:
            return DriverAnswer(False, "emergency stop: reset the arm first")
        self.enable(name == ENABLE, measured=measured)
        return DriverAnswer(True, f"drives {'on' if self._enabled else 'off'}")

    def advance(self, dt: float) -> Vector:
        """Move the set-point towards the target for `dt` [s], no faster than the servo's speed."""
        reach = self._speed * dt
        reach[:6] *= self._percent / 100.0
        away = self._target - self._setpoint
        self._setpoint = np.where(np.abs(away) <= reach, self._target, self._setpoint + np.sign(away) * reach)
        return self._setpoint.copy()

    def feedback(self, measured: MeasuredJoints) -> JointFeedback:
        """Return positions and efforts of all seven, and velocities of the six arm joints."""
        return JointFeedback(
            names=self._group.driver_names,
            positions=tuple((measured.positions / self._group.state_factors).tolist()),
            velocities=tuple(measured.velocities[:6].tolist()),
            efforts=tuple(measured.efforts.tolist()),
        )

    def echo(self) -> JointFeedback:
        """Return the target in force, as on the topic joint_ctrl."""
        sent = self._target * self._group.command_factors
        return JointFeedback(self._group.driver_names, tuple(sent.tolist()), (), ())
