# SPDX-License-Identifier: Apache-2.0
"""Which topic of a recording feeds which stream of a robot."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from wam.core.contract import PolicyContract
from wam.core.errors import ConfigError, RecordingError
from wam.data.bag.commands import COMMAND_TYPES
from wam.data.bag.gripper_actions import is_feedback
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
from wam.data.bag.video_packets import VIDEO_PACKETS
from wam.robots.camera_spec import CameraSpec, CameraTransport
from wam.robots.description import CommandKind, JointGroup, RobotDescription
from wam.robots.loader import list_robots

NO_ACTION = "no action was recorded: chunks are compared with the joint state measured later"


class Role(enum.Enum):
    """What the messages of a topic are used for."""

    CAMERA = "camera"
    JOINTS = "joints"
    ACTION = "action"
    INSTRUCTION = "instruction"


@dataclass(frozen=True, slots=True)
class Feed:
    """One topic and the streams that it feeds.

    Attributes:
        topic: name in the recording.
        msgtype: type.
        role: what its messages are used for.
        streams: names of the camera or of the joint groups; empty for an instruction, and for an action of all joints.
        joints: names of the joints of an action whose messages have none; empty takes the robot file's.
    """

    topic: str
    msgtype: str
    role: Role
    streams: tuple[str, ...] = ()
    joints: tuple[str, ...] = ()

    @property
    def camera(self) -> str:
        """The camera that it feeds."""
        return self.streams[0]


@dataclass(frozen=True, slots=True)
class Binding:
    """All topics that are read from a recording.

    Attributes:
        feeds: topic -> the streams that it feeds.
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
        actions: topics of the recorded action -> names of the joints, empty where the messages or the robot file name
            them; none for /action or, without it, the command topics of the groups.
        instruction: topic of the instruction; "" for /instruction, where it was recorded.
    """

    namespace: str = ""
    renamed: Mapping[str, str] | None = None
    actions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    instruction: str = ""


def parse_action_topics(values: Sequence[str], *, option: str) -> dict[str, tuple[str, ...]]:
    """Return topic -> names of its joints, from texts TOPIC or TOPIC=JOINT,JOINT.

    Raises:
        ConfigError: a text has another form; the message names `option`.
    """
    topics: dict[str, tuple[str, ...]] = {}
    for value in values:
        topic, named, joints = value.partition("=")
        names = tuple(name.strip() for name in joints.split(",")) if named else ()
        if not topic or (named and not all(names)):
            raise ConfigError(
                f"option {option}", value=value, allowed="TOPIC or TOPIC=JOINT,JOINT,...", where=option
            )
        topics[topic] = names
    return topics


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
    found = bind_what_is_there(recording, robot=robot, cameras=cameras, names=names)
    for _, error in found.missing:
        raise error
    return found.binding


@dataclass(frozen=True, slots=True)
class PartialBinding:
    """The topics of a recording that could be bound, and what could not.

    Attributes:
        binding: the topics that are there.
        missing: what was looked for ("the recording", a joint group, a camera, ...) and why it cannot be read.
    """

    binding: Binding
    missing: tuple[tuple[str, RecordingError], ...]


def bind_what_is_there(
    recording: Recording,
    *,
    robot: RobotDescription,
    cameras: Sequence[str],
    names: TopicNames | None = None,
) -> PartialBinding:
    """Find what `bind_cameras` finds, and go on where something is missing."""
    names = names or TopicNames()
    feeds: dict[str, Feed] = {}
    warnings: list[str] = []
    missing: list[tuple[str, RecordingError]] = []
    find = _Finder(recording, robot, names)

    def look(what: str, search: Callable[[], None]) -> None:
        try:
            search()
        except RecordingError as error:
            missing.append((what, error))

    def joints(group: JointGroup) -> None:
        topic = find(group.state_topic, (JOINT_STATE,), f"joint group {group.name}")
        _add(feeds, Feed(topic.name, topic.msgtype, Role.JOINTS, (group.name,)))

    def images(camera: CameraSpec) -> None:
        topic = find(camera.topic, _types_of(camera), f"camera {camera.name}")
        feeds[topic.name] = Feed(topic.name, topic.msgtype, Role.CAMERA, (camera.name,))

    def commands() -> None:
        actions = _actions(recording, robot, names)
        if not actions:
            warnings.append(NO_ACTION)
        for action in actions:
            _add(feeds, action)
            if is_feedback(action.msgtype):
                goals = action.topic.replace("/_action/feedback", "/_action/send_goal/_service_event")
                warnings.append(
                    f"{action.topic} is the feedback of an action: it tells where the gripper was measured, and not "
                    f"what was commanded; goals are in {goals}, where service introspection was on"
                )

    def instruction() -> None:
        topic = _usual(recording, names.instruction, INSTRUCTION_TOPIC, (STRING,), Role.INSTRUCTION)
        if topic is not None:
            feeds[topic.name] = Feed(topic.name, topic.msgtype, Role.INSTRUCTION)

    look("the recording", lambda: require_ros(recording))
    look("the robot", lambda: warnings.extend(_other_robot(recording, robot)))
    for group in robot.groups:
        look(f"joint group {group.name}", partial(joints, group))
    for name in cameras:
        look(f"camera {name}", partial(images, robot.camera(name)))
    look("the action", commands)
    look("the instruction", instruction)
    return PartialBinding(Binding(feeds, tuple(warnings)), tuple(missing))


def _add(feeds: dict[str, Feed], feed: Feed) -> None:
    """Add a feed; a topic that two joint groups share feeds both, and one that already has a role keeps it."""
    known = feeds.setdefault(feed.topic, feed)
    if known is not feed and known.role is feed.role:
        feeds[feed.topic] = replace(known, streams=(*known.streams, *feed.streams))


def _types_of(camera: CameraSpec) -> tuple[str, ...]:
    """Return the types that are read as images of a camera; one that sends packets may have been converted."""
    if camera.transport is CameraTransport.COMPRESSED:
        return (COMPRESSED_IMAGE, *VIDEO_PACKETS)
    if camera.transport is CameraTransport.RAW:
        return (IMAGE, *VIDEO_PACKETS)
    return (*VIDEO_PACKETS, COMPRESSED_IMAGE, IMAGE)


def _actions(recording: Recording, robot: RobotDescription, names: TopicNames) -> tuple[Feed, ...]:
    """Return the feeds of the commands: the topics that were named, one with all joints, or one per joint group."""
    if names.actions:
        return tuple(
            Feed(found.name, found.msgtype, Role.ACTION, joints=joints)
            for topic, joints in names.actions.items()
            if (found := _usual(recording, topic, topic, COMMAND_TYPES, Role.ACTION)) is not None
        )
    usual = _usual(recording, "", ACTION_TOPIC, (JOINT_STATE, JOINT_TRAJECTORY), Role.ACTION)
    if usual is not None:
        return (Feed(usual.name, usual.msgtype, Role.ACTION),)
    feeds = []
    for group in robot.groups:
        if group.command_kind is CommandKind.NONE:
            continue
        name = "/" + "/".join(part for part in (names.namespace.strip("/"), group.command_topic) if part)
        trajectory = group.command_kind is CommandKind.JOINT_TRAJECTORY
        msgtype = JOINT_TRAJECTORY if trajectory else JOINT_STATE
        topic = _usual(
            recording, (names.renamed or {}).get(group.command_topic, ""), name, (msgtype,), Role.ACTION
        )
        if topic is not None:
            feeds.append(Feed(topic.name, topic.msgtype, Role.ACTION, (group.name,)))
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


def _usual(
    recording: Recording, given: str, usual: str, types: tuple[str, ...], role: Role
) -> RecordedTopic | None:
    wanted = given or usual
    named = [topic for topic in recording.topics if topic.name == wanted]
    topic = next((topic for topic in named if topic.msgtype in types), None)
    if topic is None:
        if named and given:
            raise RecordingError(
                f"topic {given} of {recording.path} has a type that is not taken as {role.value}",
                value=named[0].msgtype,
                allowed=", ".join(types),
                where=f"--{role.value}-topic",
            )
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


def require_ros(recording: Recording) -> None:
    """Refuse a recording that holds no ROS message at all.

    Raises:
        RecordingError: so it is; the message names its serialisations.
    """
    kinds = {topic.encoding for topic in recording.topics}
    if not recording.topics or any(topic.is_ros for topic in recording.topics):
        return
    raise RecordingError(
        f"the messages of {recording.path} are {' and '.join(sorted(kinds))}, and not ROS",
        value=[f"{topic.name} ({topic.msgtype})" for topic in recording.topics][:8],
        allowed="messages of ROS 2 (cdr) or ROS 1, as `ros2 bag record` writes them",
        where="the recorder; a recording that exists is rewritten with the Python package mcap-ros2-support "
        "(mcap_ros2.writer), which writes sensor_msgs from what mcap-protobuf-support or json reads",
    )


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
    if not recorded or recorded in (robot.name, robot.recorded_as):
        return ()
    # Who mistook the robot must not be shown how to switch the check off.
    remedy = (
        f"--robot {recorded}"
        if recorded in list_robots()
        else f"--robot with the file of {recorded}, recorded_as: {recorded} in {robot.source}, or pass --lenient"
    )
    error = RecordingError(
        f"recording {recording.path} is of another robot",
        value=recorded,
        allowed=robot.name,
        where=remedy,
    )
    if not recording.lenient:
        raise error
    return (str(error),)
