# SPDX-License-Identifier: Apache-2.0
"""What the suite knows of a robot: joints, limits, topics, units, cameras, budgets."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wam.core.safety.limits import JointLimits


class JointKind(enum.Enum):
    """Sort of a joint; it decides the unit (rad or m)."""

    REVOLUTE = "revolute"
    PRISMATIC = "prismatic"


class CommandKind(enum.Enum):
    """What the robot's driver takes."""

    JOINT_STATE_STREAM = (
        "joint_state_stream"  # sensor_msgs/JointState at a high rate; nothing interpolates it
    )
    JOINT_TRAJECTORY = "joint_trajectory"  # trajectory_msgs/JointTrajectory to joint_trajectory_controller
    NONE = "none"  # recorded robot: it is never commanded


class CameraTransport(enum.Enum):
    """Message type of a camera topic."""

    RAW = "raw"  # sensor_msgs/Image
    COMPRESSED = "compressed"  # sensor_msgs/CompressedImage


@dataclass(frozen=True, slots=True)
class JointSpec:
    """One joint, as the policy and as the driver name it.

    Attributes:
        name: policy-side name, unique in the robot, e.g. "left_joint1".
        driver_name: name in the driver's messages, e.g. "joint1".
        kind: revolute [rad] or prismatic [m].
        lower: lower position limit [rad or m].
        upper: upper position limit [rad or m].
        velocity: operating velocity limit [rad/s or m/s].
        acceleration: operating acceleration limit [rad/s^2 or m/s^2].
        jerk: operating jerk limit [rad/s^3 or m/s^3].
        home: position at start-up in simulation [rad or m].
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
    """

    name: str
    joints: tuple[JointSpec, ...]
    state_topic: str
    state_rate: float
    state_max_age_ns: int
    command_kind: CommandKind
    command_topic: str
    command_rate: float

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Policy-side names, in order."""
        return tuple(joint.name for joint in self.joints)

    @property
    def driver_names(self) -> tuple[str, ...]:
        """Driver-side names, in order."""
        return tuple(joint.driver_name for joint in self.joints)


@dataclass(frozen=True, slots=True)
class CameraSpec:
    """One camera of the robot.

    Attributes:
        name: e.g. "head"; policies name it in their contract.
        topic: image topic, relative to the robot's namespace.
        transport: raw or compressed.
        encoding: encoding of the raw image ("rgb8"), or format of the compressed one ("jpeg").
        height: rows of the driver's image [px].
        width: columns of the driver's image [px].
        rate: nominal rate [Hz].
        max_age_ns: an older image is not acted on [ns].
        frame_id: optical frame.
    """

    name: str
    topic: str
    transport: CameraTransport
    encoding: str
    height: int
    width: int
    rate: float
    max_age_ns: int
    frame_id: str


@dataclass(frozen=True, slots=True)
class SafetyBudget:
    """Deadlines and distances of the safety node.

    Attributes:
        chunk_timeout_ns: no valid chunk for this long means HOLD [ns].
        max_jump: largest distance between a chunk's first commanded row and the measured state [rad or m].
        tracking_error: largest distance between command and measured state [rad or m].
        lead_ns: time by which commands run ahead of the measured state [ns].
        blend_ns: time over which a new chunk takes over from the old one [ns].
    """

    chunk_timeout_ns: int
    max_jump: float
    tracking_error: float
    lead_ns: int
    blend_ns: int


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
        )
