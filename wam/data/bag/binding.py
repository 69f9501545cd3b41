# SPDX-License-Identifier: Apache-2.0
"""Which topic of a recording feeds which stream of a robot."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wam.core.contract import PolicyContract
from wam.core.errors import RecordingError
from wam.data.bag.reading import RecordedTopic, Recording
from wam.data.bag.topics import (
    ACTION_TOPIC,
    COMPRESSED_IMAGE,
    IMAGE,
    INSTRUCTION_TOPIC,
    JOINT_STATE,
    JOINT_TRAJECTORY,
    STRING,
)
from wam.robots.description import CameraTransport, CommandKind, RobotDescription


class Role(enum.Enum):
    """What the messages of a topic are used for."""

    CAMERA = "camera"
    JOINTS = "joints"
    ACTION = "action"
    INSTRUCTION = "instruction"


@dataclass(frozen=True, slots=True)
class Feed:
    """One topic and the stream that it feeds.

    Attributes:
        topic: name in the recording.
        msgtype: type.
        role: what its messages are used for.
        stream: name of the camera or joint group; "" for an instruction, and for an action of all joints.
    """

    topic: str
    msgtype: str
    role: Role
    stream: str = ""


@dataclass(frozen=True, slots=True)
class Binding:
    """All topics that are read from a recording.

    Attributes:
        feeds: topic -> the stream that it feeds.
        warnings: for the user.
    """

    feeds: Mapping[str, Feed]
    warnings: tuple[str, ...]

    def first(self, role: Role) -> Feed | None:
        """Return the feed of a role that has at most one, or None."""
        return next((feed for feed in self.feeds.values() if feed.role is role), None)


@dataclass(frozen=True, slots=True)
class TopicNames:
    """Names of topics that differ from the robot file.

    Attributes:
        namespace: of the robot in the recording, without slashes at the ends; "" for none.
        renamed: topic of the robot file -> topic of the recording.
        action: topic of the recorded action; "" for /action or, without it, the command topics of the groups.
        instruction: topic of the instruction; "" for /instruction, where it was recorded.
    """

    namespace: str = ""
    renamed: Mapping[str, str] | None = None
    action: str = ""
    instruction: str = ""


def bind(
    recording: Recording,
    *,
    robot: RobotDescription,
    contract: PolicyContract,
    names: TopicNames | None = None,
) -> Binding:
    """Find every topic that `contract` needs of `robot`.

    Raises:
        RecordingError: a topic is missing, has another type, cannot be read or is empty, or the recording is of
            another robot.
    """
    return bind_cameras(recording, robot=robot, cameras=contract.camera_names, names=names)


def bind_cameras(
    recording: Recording,
    *,
    robot: RobotDescription,
    cameras: Sequence[str],
    names: TopicNames | None = None,
) -> Binding:
    """Find the topics of all joint groups of `robot`, of the `cameras`, of action and instruction.

    Raises:
        RecordingError: as `bind`.
    """
    names = names or TopicNames()
    warnings = list(_other_robot(recording, robot))
    feeds: dict[str, Feed] = {}
    find = _Finder(recording, robot, names)
    for group in robot.groups:
        topic = find(group.state_topic, (JOINT_STATE,), f"joint group {group.name}")
        feeds[topic.name] = Feed(topic.name, topic.msgtype, Role.JOINTS, group.name)
    for camera_name in cameras:
        camera = robot.camera(camera_name)
        allowed = (COMPRESSED_IMAGE,) if camera.transport is CameraTransport.COMPRESSED else (IMAGE,)
        topic = find(camera.topic, allowed, f"camera {camera.name}")
        feeds[topic.name] = Feed(topic.name, topic.msgtype, Role.CAMERA, camera.name)
    actions = _actions(recording, robot, names)
    if not actions:
        warnings.append("no action was recorded: chunks are compared with the joint state measured later")
    for action in actions:
        feeds.setdefault(action.topic, action)
    instruction = _extra(recording, names.instruction, INSTRUCTION_TOPIC, (STRING,), Role.INSTRUCTION)
    if instruction is not None:
        feeds[instruction.name] = Feed(instruction.name, instruction.msgtype, Role.INSTRUCTION)
    return Binding(feeds, tuple(warnings))


def _actions(recording: Recording, robot: RobotDescription, names: TopicNames) -> tuple[Feed, ...]:
    """Return the feeds of the commands: one topic with all joints, or one per joint group."""
    topic = _extra(recording, names.action, ACTION_TOPIC, (JOINT_STATE, JOINT_TRAJECTORY), Role.ACTION)
    if topic is not None:
        return (Feed(topic.name, topic.msgtype, Role.ACTION),)
    feeds = []
    for group in robot.groups:
        if group.command_kind is CommandKind.NONE:
            continue
        name = "/" + "/".join(part for part in (names.namespace.strip("/"), group.command_topic) if part)
        trajectory = group.command_kind is CommandKind.JOINT_TRAJECTORY
        msgtype = JOINT_TRAJECTORY if trajectory else JOINT_STATE
        topic = _extra(
            recording, (names.renamed or {}).get(group.command_topic, ""), name, (msgtype,), Role.ACTION
        )
        if topic is not None:
            feeds.append(Feed(topic.name, topic.msgtype, Role.ACTION, group.name))
    return tuple(feeds)


class _Finder:
    """Finds the topic of a stream; a topic that matches only at its end is suggested in the error text."""

    def __init__(self, recording: Recording, robot: RobotDescription, names: TopicNames) -> None:
        self._recording = recording
        self._robot = robot
        self._names = names

    def __call__(self, relative: str, types: tuple[str, ...], what: str) -> RecordedTopic:
        renamed = (self._names.renamed or {}).get(relative)
        namespace = self._names.namespace.strip("/")
        wanted = renamed or "/" + "/".join(part for part in (namespace, relative) if part)
        # rosbag2 writes names without a slash if the recorder was started with such names.
        topics = [t for t in self._recording.topics if t.name in (wanted, wanted.lstrip("/"))]
        fitting = [topic for topic in topics if topic.msgtype in types]
        if not fitting:
            self._refuse(wanted, relative, types, what, [topic.msgtype for topic in topics])
        _require_readable(self._recording, fitting[0])
        return fitting[0]

    def _refuse(
        self, wanted: str, relative: str, types: tuple[str, ...], what: str, found: list[str]
    ) -> None:
        recording, robot = self._recording, self._robot
        if found:
            raise RecordingError(
                f"topic {wanted} of {recording.path} has another type than {what} of robot {robot.name} expects",
                value=found[0],
                allowed=", ".join(types),
                where=f"{robot.source} (transport), or another --robot",
            )
        same_type = [topic.name for topic in recording.topics if topic.msgtype in types]
        ends = [name for name in same_type if name.endswith("/" + relative)]
        remedy = f"--remap {relative}:={same_type[0] if same_type else 'TOPIC'}, or another --robot"
        if len(ends) == 1:
            remedy = f"--namespace {ends[0].removesuffix('/' + relative).strip('/')}"
        raise RecordingError(
            f"recording {recording.path} has no topic {wanted} for {what} of robot {robot.name}",
            value=[topic.name for topic in recording.topics][:20],
            allowed=f"{wanted} of type {', '.join(types)}"
            + (f"; of that type are {', '.join(same_type[:8])}" if same_type else ""),
            where=remedy,
        )


def _extra(
    recording: Recording, given: str, usual: str, types: tuple[str, ...], role: Role
) -> RecordedTopic | None:
    wanted = given or usual
    topic = next((t for t in recording.topics if t.name == wanted and t.msgtype in types), None)
    if topic is None:
        if given:
            raise RecordingError(
                f"recording {recording.path} has no topic {given} for the {role.value}",
                allowed=", ".join(t.name for t in recording.topics if t.msgtype in types) or "(none fits)",
                where=f"--{role.value}-topic",
            )
        return None
    if given:
        _require_readable(recording, topic)
    return topic if topic.count and not topic.unreadable else None


def _require_readable(recording: Recording, topic: RecordedTopic) -> None:
    if topic.unreadable:
        raise RecordingError(
            f"topic {topic.name} of {recording.path} cannot be read: {topic.msgtype} is {topic.unreadable}",
            where="the recorder (record with the message definitions, as MCAP)",
        )
    if not topic.count:
        raise RecordingError(
            f"topic {topic.name} of {recording.path} is empty", value="0 messages", where="the recording"
        )


def _other_robot(recording: Recording, robot: RobotDescription) -> tuple[str, ...]:
    recorded = recording.custom.get("wam.robot", "")
    if not recorded or recorded == robot.name:
        return ()
    error = RecordingError(
        f"recording {recording.path} is of another robot",
        value=recorded,
        allowed=robot.name,
        where=f"--robot {recorded}, or pass --lenient",
    )
    if not recording.lenient:
        raise error
    return (str(error),)
