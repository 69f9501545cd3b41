# SPDX-License-Identifier: Apache-2.0
"""AgileX Piper behind piper_ros (piper_ctrl_single_node) or its successor agx_arm_ros.

What a lost CAN bus looks like depends on the driver (`wam.devices.piper.generations`): a stamp that stands still means
a lost bus, no messages at all mean a dead node or a lost bus, and an arm that does not follow may mean either.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any

from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.devices.optional import VENDOR_TYPES
from wam.devices.piper.generations import (
    AGX_ARM_ROS,
    ARM_JOINTS,
    FULL_SPEED_PERCENT,
    PIPER_ROS,
    PiperTopics,
    driver_of,
)
from wam.devices.state import DriverState, Readiness, Step, person, service
from wam.robots.description import JointGroup

DRIVER_DEGREE = 0.017444
"""One degree in the feedback of piper_ros [rad]."""
DRIVER_MILLIDEGREES = 57324.84
"""Thousandths of a degree per radian in commands of piper_ros (it uses 3.14 for pi)."""
FEEDBACK_FACTOR = math.radians(1.0) / DRIVER_DEGREE
"""Measured angle = reported angle times this: +0.053 %. `conversion.state` of the robot file."""
COMMAND_FACTOR = math.degrees(1000.0) / DRIVER_MILLIDEGREES
"""Angle to send = wanted angle times this: -0.051 %. `conversion.command` of the robot file."""

ENABLE_PERIOD_NS = 500 * NS_PER_MS
ENABLE_TIMEOUT_NS = 5 * NS_PER_S
CAN_TIMEOUT_NS = 100 * NS_PER_MS
NODE_TIMEOUT_NS = 500 * NS_PER_MS

GRIPPER_KEY = "gripper_on_enable"
FORBIDDEN = (
    "the {} is not enabled: its driver closes the gripper as it enables, which "
    f"`{GRIPPER_KEY}: keep` of its group in the robot file forbids; take out what the gripper holds and write "
    f"`{GRIPPER_KEY}: may_close`, or enable it with the vendor's own tool"
)
"""Why an arm is not enabled, and where that is allowed; `{}` is its name."""


def velocity_field(group: JointGroup) -> tuple[float, ...]:
    """Return the `velocity` of a command: full speed in the seventh place for piper_ros.

    Older releases move at 30 % where nothing is said, too slow to follow. agx_arm_ros reads velocities, and takes none.
    """
    topics, _ = driver_of(group.state_topic)
    return (*(0.0 for _ in ARM_JOINTS), FULL_SPEED_PERCENT) if topics.speed_field else ()


class ArmStatus(enum.IntEnum):
    """`arm_status` of piper_msgs/PiperStatusMsg."""

    NORMAL = 0x0
    EMERGENCY_STOP = 0x1
    NO_SOLUTION = 0x2
    SINGULARITY = 0x3
    TARGET_OVER_LIMIT = 0x4
    JOINT_COMMUNICATION = 0x5
    BRAKE_NOT_RELEASED = 0x6
    COLLISION = 0x7
    OVERSPEED_IN_TEACHING = 0x8
    JOINT_STATUS = 0x9
    OTHER = 0xA


class ControlMode(enum.IntEnum):
    """`ctrl_mode` of piper_msgs/PiperStatusMsg."""

    STANDBY = 0
    CAN = 1
    TEACHING = 2
    ETHERNET = 3
    WIFI = 4
    REMOTE = 5
    LINKAGE_TEACHING = 6
    OFFLINE = 7


@dataclass(frozen=True, slots=True)
class PiperStatus:
    """Fields of the arm's status that matter.

    Attributes:
        arm_status: 0 normal; otherwise see `ArmStatus`.
        ctrl_mode: see `ControlMode`.
        limited_joints: joints at their angle limit.
        silent_joints: joints whose motor does not answer on the bus.
    """

    arm_status: int
    ctrl_mode: int
    limited_joints: tuple[str, ...] = ()
    silent_joints: tuple[str, ...] = ()


def read_status(message: Any) -> PiperStatus:
    """Return the values of a piper_msgs/PiperStatusMsg or agx_arm_msgs/AgxArmStatus.

    The first has a flag per joint, the second lists of them. Flags that a version of a message lacks count as clear.
    """

    def flagged(pattern: str) -> tuple[str, ...]:
        listed = getattr(message, pattern.replace("_{}", ""), None)
        if listed is not None:
            return tuple(name for name, on in zip(ARM_JOINTS, listed, strict=False) if on)
        return tuple(
            name for i, name in enumerate(ARM_JOINTS, 1) if getattr(message, pattern.format(i), False)
        )

    return PiperStatus(
        int(message.arm_status),
        int(message.ctrl_mode),
        flagged("joint_{}_angle_limit"),
        flagged("communication_status_joint_{}"),
    )


class Request(enum.Enum):
    """What the driver node must do now."""

    ENABLE = "enable"  # call the enable service and hand the answer to `on_enabled`


class PiperArm:
    """Watches and enables one arm. Called from one thread.

    Args:
        name: for texts, e.g. "left arm".
        topics: of its driver.
        may_close: enabling may close the gripper.
    """

    def __init__(self, name: str, topics: PiperTopics = PIPER_ROS, *, may_close: bool = True) -> None:
        self.name, self._topics = name, topics
        self.calls = enabling_calls(topics)
        self._called = 0
        self.forbidden = "" if may_close or not topics.closes_gripper else FORBIDDEN.format(name)
        self._stamp_ns: int | None = None
        self._moved_ns = 0  # when the stamp last changed
        self._heard_ns = 0
        self._status: PiperStatus | None = None
        self._enabled: bool | None = None
        self._enabling_ns: int | None = None
        self._asked_ns: int | None = None
        self._enable_failed = ""
        self._refusal = ""

    @property
    def topics(self) -> PiperTopics:
        """Names of its driver."""
        return self._topics

    @property
    def stamp_ns(self) -> int | None:
        """Stamp of the newest joint state [ns]."""
        return self._stamp_ns

    @property
    def warning(self) -> str:
        """What enabling does beside switching the drives on; "" for nothing."""
        if not self._topics.closes_gripper:
            return ""
        return (
            f"enabling the {self.name} CLOSES ITS GRIPPER with 1 N m: {self._topics.enable} of "
            f"{self._topics.package} commands it to 0 m ({GRIPPER_KEY}: keep in the robot file forbids it)"
        )

    @property
    def enabling(self) -> bool:
        """Whether it is being enabled."""
        return self._enabling_ns is not None

    @property
    def untold(self) -> bool:
        """Whether nothing is known of its drives: they were not asked for, and not lost."""
        return self._enabled is None and not self._enable_failed and not self.enabling

    @property
    def disabled(self) -> bool:
        """Whether the drives are known to be off, or may have been off while the bus was lost."""
        return self._enabled is False

    def on_joint_state(self, stamp_ns: int, now_ns: int) -> None:
        """Take the stamp of a joint state that arrived at `now_ns`."""
        if stamp_ns != self._stamp_ns:
            self._notice_loss(now_ns)
            self._stamp_ns, self._moved_ns = stamp_ns, now_ns
        self._heard_ns = now_ns

    def on_status(self, status: PiperStatus) -> None:
        """Take the newest status."""
        self._status = status

    def enable(self, now_ns: int) -> None:
        """Begin to enable the arm: `step` requests it until it is enabled, for at most 5 s."""
        if self.forbidden:
            self._enable_failed = self.forbidden
            return
        self._enabling_ns, self._asked_ns, self._called = now_ns, None, 0
        self._enable_failed = self._refusal = ""

    @property
    def call(self) -> Step:
        """The service call that is due while it is being enabled."""
        return self.calls[self._called]

    def on_enabled(self, enabled: bool) -> None:
        """Take the answer of the service that `call` names."""
        if self._enabling_ns is None or not enabled:
            return
        if self._called + 1 < len(self.calls):
            self._called, self._asked_ns = self._called + 1, None
        else:
            self._enabled, self._enabling_ns = True, None

    def on_recovered(self) -> None:
        """Take that all of `calls` were made, and answered with yes, without having been asked for by `step`."""
        self._enabled, self._enabling_ns, self._enable_failed = True, None, ""

    def on_refused(self, why: str) -> None:
        """Take why the service could not be called, or failed; it is called again until the time is over."""
        self._refusal = why

    def on_disabled(self) -> None:
        """Take that the drives were switched off, by us or by somebody else."""
        self._enabled, self._enabling_ns = False, None

    def step(self, now_ns: int) -> Request | None:
        """Return what to do now; also notices a lost bus, after which the arm counts as disabled."""
        self._notice_loss(now_ns)
        if self._enabling_ns is None:
            return None
        if now_ns - self._enabling_ns > ENABLE_TIMEOUT_NS:
            self._enabling_ns = None
            reason = f" ({self._refusal})" if self._refusal else ""
            self._enable_failed = f"not enabled within {ENABLE_TIMEOUT_NS / NS_PER_S:g} s{reason}"
            return None
        if self._asked_ns is None or now_ns - self._asked_ns >= ENABLE_PERIOD_NS:
            self._asked_ns = now_ns
            return Request.ENABLE
        return None

    def _silence(self, timeout_ns: int) -> str:
        where = f"{self._topics.state} of the {self.name}"
        if self._stamp_ns is None:
            return f"nothing has arrived on {where}"
        return f"nothing has arrived on {where} for {timeout_ns / NS_PER_S:g} s"

    def state(self, now_ns: int) -> DriverState:
        """Return the state at `now_ns`."""
        if self._stamp_ns is None or now_ns - self._heard_ns > NODE_TIMEOUT_NS:
            return DriverState(
                Readiness.ABSENT,
                "driver_silent",
                self._silence(NODE_TIMEOUT_NS),
                (
                    person("support the arm: without drives it sinks", moves=True),
                    person(
                        f"start the driver ({self._topics.node}) in the arm's namespace, or wait until the launch "
                        "file has: newer ones end, or say nothing, without a CAN bus"
                    ),
                    person("compare namespace and topic with the robot file"),
                    *self._enable_steps(),
                ),
            )
        if self._can_lost(now_ns):
            return DriverState(
                Readiness.ABSENT,
                "can_lost",
                self.lost_bus(now_ns) or self._silence(CAN_TIMEOUT_NS),
                (
                    person("support the arm: without drives it sinks", moves=True),
                    person("check the arm's power and the USB-CAN adapter"),
                    person("bring the interface up again: sudo ip link set canX up type can bitrate 1000000"),
                    person("restart the arm's driver node"),
                    *self._enable_steps(),
                ),
            )
        status = self._status
        if status is not None and (fault := self.fault(status)) is not None:
            return fault
        if self._enabling_ns is not None:
            return DriverState(Readiness.WAITING, "enabling", f"the {self.name} is being enabled (up to 5 s)")
        if not self._enabled:
            why = self._enable_failed or ("unknown" if self._enabled is None else "disabled")
            return DriverState(
                Readiness.WAITING,
                "not_enabled",
                f"the drives of the {self.name}: {why}",
                (person("keep clear of the arm"), *self._enable_steps()),
            )
        if status is not None and status.ctrl_mode != ControlMode.CAN:
            return DriverState(
                Readiness.DEGRADED,
                "standby",
                f"the {self.name} is enabled and in {_mode(status.ctrl_mode)}; the first command takes it to CAN",
            )
        if status is not None and status.limited_joints:
            return DriverState(
                Readiness.DEGRADED,
                "joint_at_limit",
                f"{', '.join(status.limited_joints)} of the {self.name} stand at a limit",
            )
        return DriverState(Readiness.READY, "ready", f"the {self.name} follows")

    def lost_bus(self, now_ns: int) -> str:
        """Return why the CAN bus counts as lost: stamps stand still, or a driver that then says nothing is silent."""
        if not self._can_lost(now_ns):
            return ""
        if now_ns - self._heard_ns <= CAN_TIMEOUT_NS:
            still_ms = (now_ns - self._moved_ns) / NS_PER_MS
            return f"the stamps of the {self.name} have stood still for {still_ms:.0f} ms: no CAN frames"
        if self._topics is AGX_ARM_ROS:
            return f"{self._topics.package} publishes nothing: no CAN frames"
        return ""

    def _notice_loss(self, now_ns: int) -> None:
        if self._can_lost(now_ns) and self._enabled:
            self._enabled = False

    def _can_lost(self, now_ns: int) -> bool:
        return self._stamp_ns is not None and now_ns - self._moved_ns > CAN_TIMEOUT_NS

    def _enable_steps(self) -> tuple[Step, ...]:
        """Return how the drives are switched on, what that does beside it first."""
        if self.forbidden:
            return (person(self.forbidden),)
        told = (person(self.warning),) if self.warning else ()
        return (*told, *self.calls)

    def fault(self, status: PiperStatus) -> DriverState | None:
        """Return the fault that `status` reports, or None."""
        if status.ctrl_mode in (ControlMode.TEACHING, ControlMode.LINKAGE_TEACHING):
            return DriverState(
                Readiness.BLOCKED,
                "teaching",
                f"the {self.name} is in {_mode(status.ctrl_mode)}",
                (
                    person("end teaching with the button on the arm (its light goes out)"),
                    person(
                        "park the arm: leaving this mode needs a reset, and a reset drops the arm", moves=True
                    ),
                    *self._enable_steps(),
                ),
            )
        if status.ctrl_mode == ControlMode.OFFLINE:
            return DriverState(
                Readiness.BLOCKED,
                "offline_mode",
                f"the {self.name} is in {_mode(status.ctrl_mode)}",
                (person("end the off-line trajectory on the arm"), *self._enable_steps()),
            )
        if status.arm_status == ArmStatus.NORMAL and not status.silent_joints:
            return None
        try:
            fault = ArmStatus(status.arm_status)
        except ValueError:
            fault = ArmStatus.OTHER
        if fault is ArmStatus.NORMAL:
            fault = ArmStatus.JOINT_COMMUNICATION
        text = f"the {self.name} reports {fault.name.lower().replace('_', ' ')} ({status.arm_status:#x})"
        if status.silent_joints:
            text += f", no answer from {', '.join(status.silent_joints)}"
        return DriverState(
            Readiness.BLOCKED, fault.name.lower(), text, (*_FAULT_STEPS[fault], *self._enable_steps())
        )


def enabling_calls(topics: PiperTopics) -> tuple[Step, ...]:
    """Return the service calls that let an arm follow, in order: its drives, and the gate of its commands."""
    package, kind, name = VENDOR_TYPES[topics.enable_type]
    drives = service(
        topics.enable,
        f"enable the drives ({package}/{kind}/{name})",
        moves=True,
        type=topics.enable_type,
        values={topics.enable_field: True},
    )
    if not topics.gate:
        return (drives,)
    gate = service(
        topics.gate, "let commands through", moves=True, type="set_bool", values={topics.enable_field: True}
    )
    return drives, gate


def _mode(value: int) -> str:
    try:
        return f"mode {ControlMode(value).name.lower().replace('_', ' ')} ({value})"
    except ValueError:
        return f"unknown mode {value}"


_SUPPORT = person("support the arm: a reset or a disabled drive lets it sink, it has no brakes", moves=True)
_AWAY = person("lead the arm away from where it stands, by hand or with the vendor's tool", moves=True)
_RESET = service("reset_srv", "reset the arm (newer piper_ros; otherwise switch it off and on)", moves=True)
_FAULT_STEPS: dict[ArmStatus, tuple[Step, ...]] = {
    ArmStatus.EMERGENCY_STOP: (person("find out why it was stopped, and clear the cause"), _SUPPORT, _RESET),
    ArmStatus.NO_SOLUTION: (_AWAY,),
    ArmStatus.SINGULARITY: (_AWAY,),
    ArmStatus.TARGET_OVER_LIMIT: (person("compare the limits of the robot file with the arm's"),),
    ArmStatus.JOINT_COMMUNICATION: (_SUPPORT, person("check the arm's cables; switch it off and on")),
    ArmStatus.BRAKE_NOT_RELEASED: (_SUPPORT, person("switch the arm off and on")),
    ArmStatus.COLLISION: (person("free the arm and what it met"), _SUPPORT, _RESET),
    ArmStatus.OVERSPEED_IN_TEACHING: (person("let the arm come to rest"), _SUPPORT, _RESET),
    ArmStatus.JOINT_STATUS: (_SUPPORT, person("read err_code of arm_status; switch the arm off and on")),
    ArmStatus.OTHER: (_SUPPORT, person("read err_code of arm_status; switch the arm off and on")),
}
