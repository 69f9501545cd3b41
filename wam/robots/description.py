# SPDX-License-Identifier: Apache-2.0
"""What the suite knows of a robot: joints and their limits, groups of joints by driver."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wam.core.safety.effort import NO_LIMITS, EffortLimits
from wam.core.safety.limits import JointLimits, VelocityEnvelope
from wam.robots.camera_spec import CameraSpec
from wam.robots.joint_mapping import NO_CONVERSION, Conversion, ModelJoint, RawScale
from wam.robots.safety_budget import SafetyBudget
from wam.robots.twin_spec import IDEAL_TWIN, ServoSpec, TwinSpec
from wam.robots.zone_file import ZoneSpec


class JointKind(enum.Enum):
    """Sort of a joint; it decides the unit (rad, m, or 1)."""

    REVOLUTE = "revolute"
    PRISMATIC = "prismatic"
    RATIO = "ratio"  # fraction of the range, e.g. a hand whose driver gives 0 (closed) .. 1 (open)

    @property
    def unit(self) -> str:
        """SI unit of the position."""
        return {"revolute": "rad", "prismatic": "m", "ratio": "1"}[self.value]


class CommandKind(enum.Enum):
    """What the robot's driver takes."""

    JOINT_STATE_STREAM = (
        "joint_state_stream"  # sensor_msgs/JointState at a high rate; nothing interpolates it
    )
    JOINT_TRAJECTORY = "joint_trajectory"  # trajectory_msgs/JointTrajectory to joint_trajectory_controller
    NONE = "none"  # recorded robot: it is never commanded


NO_DRIVER = "none"
"""`driver` of a group without a driver known to the suite: a recorded robot, or one that is driven by other means."""


class Distribution(enum.Enum):
    """ROS 2 distributions between which drivers and controllers differ, oldest first."""

    HUMBLE = "humble"
    JAZZY = "jazzy"
    KILTED = "kilted"
    LYRICAL = "lyrical"
    ROLLING = "rolling"


@dataclass(frozen=True, slots=True)
class JointEnvelope:
    """Position-dependent velocity limit of one joint; see `VelocityEnvelope`.

    Attributes:
        slope: [u/s^2].
        corner: [u/s].
        upper_end: [u].
        lower_end: [u].
    """

    slope: float
    corner: float
    upper_end: float
    lower_end: float


NO_ENVELOPE = JointEnvelope(math.inf, 0.0, math.inf, -math.inf)


GRIPPER_WORDS = ("gripper", "finger", "jaw", "claw", "knuckle")
"""Names of revolute joints that hold one of these are those of grippers."""


@dataclass(frozen=True, slots=True)
class JointSpec:
    """One joint, as the policy and as the driver name it. The unit u is rad, m or 1, by `kind`.

    Attributes:
        name: policy-side name, unique in the robot, e.g. "left_joint1".
        driver_name: name in the driver's messages, e.g. "joint1".
        kind: revolute [rad], prismatic [m] or ratio [1].
        lower: lower position limit [u].
        upper: upper position limit [u].
        velocity: operating velocity limit [u/s].
        acceleration: operating acceleration limit [u/s^2].
        jerk: operating jerk limit [u/s^3].
        home: position at start-up in simulation [u].
        model_joints: joints of the URDF that follow it; empty for a robot without a model.
        servo: how the simulated twin moves it, or None where it is not simulated.
        envelope: velocity limit that depends on the position, or None.
        raw: what the device writes on its wire, or None where the driver's messages are all there is.
        conversion: what the driver's messages mean.
        effort: limits of the effort that the driver reports in its joint states.
        external_torque: limits of the torque that it ascribes to what the arm touches.
        gripper: whether it is a gripper or a finger, which opens and closes; None where the robot file does not say.
    """

    name: str
    driver_name: str
    kind: JointKind
    lower: float
    upper: float
    velocity: float
    acceleration: float
    jerk: float
    home: float = 0.0
    model_joints: tuple[ModelJoint, ...] = ()
    servo: ServoSpec | None = None
    envelope: JointEnvelope | None = None
    raw: RawScale | None = None
    conversion: Conversion = NO_CONVERSION
    effort: EffortLimits = NO_LIMITS
    external_torque: EffortLimits = NO_LIMITS
    gripper: bool | None = None

    @property
    def is_gripper(self) -> bool:
        """Whether it opens and closes; where the robot file does not say, its kind and its name decide."""
        if self.gripper is not None:
            return self.gripper
        name = self.driver_name.lower()
        return self.kind is not JointKind.REVOLUTE or any(word in name for word in GRIPPER_WORDS)

    def to_raw(self, position: float) -> float:
        """Return the device's raw value for `position` [u].

        Raises:
            ValueError: the joint has no raw scale.
        """
        if self.raw is None:
            raise ValueError(f"{self.name} has no raw scale")
        share = (position - self.lower) / (self.upper - self.lower)
        return self.raw.at_lower + share * (self.raw.at_upper - self.raw.at_lower)

    def from_raw(self, value: float) -> float:
        """Return the position [u] for the device's raw `value`.

        Raises:
            ValueError: the joint has no raw scale.
        """
        if self.raw is None:
            raise ValueError(f"{self.name} has no raw scale")
        share = (value - self.raw.at_lower) / (self.raw.at_upper - self.raw.at_lower)
        return self.lower + share * (self.upper - self.lower)


class GripperOnEnable(enum.Enum):
    """What may become of a gripper whose driver closes it while the arm's drives are switched on."""

    MAY_CLOSE = "may_close"
    KEEP = "keep"  # such an arm is not enabled by the suite


@dataclass(frozen=True, slots=True)
class Payload:
    """What the tip of a group carries beside what its driver knows of.

    Attributes:
        mass: [kg].
        center_of_mass: x, y, z in the tip link [m].
    """

    mass: float
    center_of_mass: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class JointGroup:
    """Joints that share a driver: one state topic, one command topic.

    Attributes:
        name: e.g. "left".
        joints: in the order in which commands are written.
        state_topic: sensor_msgs/JointState of the driver, relative to the robot's namespace.
        state_rate: nominal rate of the state topic [Hz].
        state_max_age_ns: older state is not acted on [ns].
        command_kind: what the driver takes.
        command_topic: topic of the commands, relative; "" where `command_kind` is NONE.
        command_rate: rate at which commands are streamed [Hz]; 0 where NONE.
        driver: kind of the device, a name of `wam.devices.registry`; it decides rules, adapter, twin and launch.
        base_link: link in which the group's poses are given, or "" for a robot without a model.
        tip_link: last link of the chain, or "".
        command_topics: distribution -> command topic, where it is another than for the rest; `command_topic` is that
            of the distribution in force.
        twin: how its simulated twin behaves.
        command_lead_ns: time by which the device starts to move after a command: it is sent that much early [ns].
        launch: arguments of the vendor's launch file that are not those of the kind: name -> value.
        payload: what the tip carries, to be entered at the device; None where the file does not say.
        gripper_on_enable: whether the suite may enable an arm whose driver closes the gripper as it does.
        spellings: other lists of names that releases of the driver have for the joints, in their order.
    """

    name: str
    joints: tuple[JointSpec, ...]
    state_topic: str
    state_rate: float
    state_max_age_ns: int
    command_kind: CommandKind
    command_topic: str
    command_rate: float
    driver: str = NO_DRIVER
    base_link: str = ""
    tip_link: str = ""
    command_topics: tuple[tuple[Distribution, str], ...] = ()
    twin: TwinSpec = IDEAL_TWIN
    command_lead_ns: int = 0
    launch: tuple[tuple[str, str], ...] = ()
    payload: Payload | None = None
    gripper_on_enable: GripperOnEnable = GripperOnEnable.MAY_CLOSE
    spellings: tuple[tuple[str, ...], ...] = ()

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Policy-side names, in order."""
        return tuple(joint.name for joint in self.joints)

    @property
    def driver_names(self) -> tuple[str, ...]:
        """Driver-side names, in order."""
        return tuple(joint.driver_name for joint in self.joints)

    @property
    def parts(self) -> dict[str, str]:
        """Name that a driver may have for a joint -> its driver name."""
        named = {name: name for name in self.driver_names}
        for spelling in self.spellings:
            named |= {
                told: name
                for told, name in zip(spelling, self.driver_names, strict=True)
                if told not in named
            }
        return named

    @property
    def state_factors(self) -> npt.NDArray[np.float64]:
        """`Conversion.state` of the joints, float64 [N]."""
        return np.array([joint.conversion.state for joint in self.joints])

    @property
    def command_factors(self) -> npt.NDArray[np.float64]:
        """`Conversion.command` of the joints, float64 [N]."""
        return np.array([joint.conversion.command for joint in self.joints])


UNSTATED = 1e-6
"""Acceleration or jerk of a joint whose file is for replay and leaves it open: as good as none."""


def summed_up(unstated: tuple[str, ...]) -> str:
    """Return the values that a file for replay leaves open in a few words: "lower of 7 joints, safety"."""
    last = [path.rpartition(".")[2] for path in unstated]
    counts = {key: last.count(key) for key in dict.fromkeys(last)}
    return ", ".join(
        key if key == "safety" else f"{key} of {count} {'joint' if count == 1 else 'joints'}"
        for key, count in counts.items()
    )


@dataclass(frozen=True, slots=True)
class RobotDescription:
    """A robot of `config/robots/NAME.yaml`.

    Attributes:
        name: file name without suffix.
        title: name for people.
        urdf: xacro or URDF file, or None for a recorded robot without a model.
        xacro_args: arguments passed to xacro.
        srdf: file with pairs of links whose contact is ignored, or None.
        groups: joint groups; joint names are unique over all of them.
        cameras: cameras.
        safety: budgets of the safety node.
        source: file the description was read from, for error texts.
        zones: boxes in which points of an arm must not be, or must be slow.
        recorded_as: another name that recordings of the robot may have; "" for none.
        replay_only: the file is for recordings alone: nothing may move a robot by it, and `safety` is `NO_BUDGET`.
        unstated: dotted paths of the values that such a file does not state: left open, or only what a recording shows.
    """

    name: str
    title: str
    urdf: Path | None
    xacro_args: tuple[tuple[str, str], ...]
    srdf: Path | None
    groups: tuple[JointGroup, ...]
    cameras: tuple[CameraSpec, ...]
    safety: SafetyBudget
    source: Path
    zones: tuple[ZoneSpec, ...] = ()
    recorded_as: str = ""
    replay_only: bool = False
    unstated: tuple[str, ...] = ()

    @property
    def joints(self) -> tuple[JointSpec, ...]:
        """All joints, group after group."""
        return tuple(joint for group in self.groups for joint in group.joints)

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Policy-side names of all joints, group after group."""
        return tuple(joint.name for joint in self.joints)

    def camera(self, name: str) -> CameraSpec:
        """Return the camera called `name`.

        Raises:
            KeyError: there is none.
        """
        return {camera.name: camera for camera in self.cameras}[name]

    def group(self, name: str) -> JointGroup:
        """Return the joint group called `name`.

        Raises:
            KeyError: there is none.
        """
        return {group.name: group for group in self.groups}[name]

    def groups_of(self, driver: str) -> tuple[JointGroup, ...]:
        """Return the joint groups of one kind of device."""
        return tuple(group for group in self.groups if group.driver == driver)

    def limits(self) -> JointLimits:
        """Return the joint limits as arrays over all joints."""

        def column(field: str) -> npt.NDArray[np.float64]:
            return np.array([getattr(joint, field) for joint in self.joints], dtype=np.float64)

        return JointLimits(
            joint_names=self.joint_names,
            lower=column("lower"),
            upper=column("upper"),
            velocity=column("velocity"),
            acceleration=column("acceleration"),
            jerk=column("jerk"),
            velocity_envelope=self._velocity_envelope(),
        )

    def _velocity_envelope(self) -> VelocityEnvelope | None:
        if all(joint.envelope is None for joint in self.joints):
            return None
        rows = [joint.envelope or NO_ENVELOPE for joint in self.joints]

        def column(field: str) -> npt.NDArray[np.float64]:
            return np.array([getattr(row, field) for row in rows], dtype=np.float64)

        return VelocityEnvelope(
            slope=column("slope"),
            corner=column("corner"),
            upper_end=column("upper_end"),
            lower_end=column("lower_end"),
        )
