# SPDX-License-Identifier: Apache-2.0
"""Grippers that are commanded by actions: what recordings hold of these is read, and what is no command is said so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import Writer as McapWriter
from robot_recordings import positions_at, with_camera
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.core.errors import RecordingError
from wam.data.bag.binding import Feed, Role, TopicNames, bind_cameras
from wam.data.bag.commands import CommandReader
from wam.data.bag.joint_names import RecordedJoints
from wam.data.bag.reading import Recording, message_reader
from wam.data.bag.stamps import BagMessage
from wam.data.bag.storage import Channel
from wam.data.bag.topics import EPOCH_NS, FLOAT64, GRIPPER_COMMAND
from wam.data.bag.writing import BagWriter
from wam.data.fakes import fake_image
from wam.data.lerobot.reader import open_dataset
from wam.data.to_lerobot import BagOptions, convert_bags
from wam.devices.loader import load_robot
from wam.evaluation.replay.engine import ReplayOptions, ReplaySettings
from wam.evaluation.replay.session import replay
from wam.runtime.policy import PolicyRequest, load_fake

ROBOT = with_camera(load_robot("franka"))
FINGER = "fr3_finger_joint1"
ACTION = "/franka_gripper/gripper_action/_action"
UUID = "unique_identifier_msgs/msg/UUID goal_id\n"
PAST = "control_msgs/action/ParallelGripperCommand"
TEXTS = {
    "control_msgs/msg/GripperCommand": "float64 position\nfloat64 max_effort",
    "control_msgs/action/GripperCommand_Goal": "control_msgs/msg/GripperCommand command",
    "control_msgs/action/GripperCommand_Feedback": "float64 position\nfloat64 effort\nbool stalled\nbool reached_goal",
    "control_msgs/action/GripperCommand_FeedbackMessage": UUID
    + "control_msgs/action/GripperCommand_Feedback feedback",
    "control_msgs/action/GripperCommand_SendGoal_Request": UUID
    + "control_msgs/action/GripperCommand_Goal goal",
    "control_msgs/action/GripperCommand_SendGoal_Response": "bool accepted\nbuiltin_interfaces/msg/Time stamp",
    "control_msgs/action/GripperCommand_SendGoal_Event": "service_msgs/msg/ServiceEventInfo info\n"
    "control_msgs/action/GripperCommand_SendGoal_Request[<=1] request\n"
    "control_msgs/action/GripperCommand_SendGoal_Response[<=1] response",
    f"{PAST}_Feedback": "sensor_msgs/msg/JointState state",
    f"{PAST}_FeedbackMessage": f"{UUID}{PAST}_Feedback feedback",
    "franka_msgs/action/Move_Feedback": "float64 current_width",
    "franka_msgs/action/Move_FeedbackMessage": f"{UUID}franka_msgs/action/Move_Feedback feedback",
    "franka_msgs/msg/GraspEpsilon": "float64 inner\nfloat64 outer",
    "franka_msgs/action/Grasp_Goal": "float64 width\nfranka_msgs/msg/GraspEpsilon epsilon\n"
    "float64 speed\nfloat64 force",
    "franka_msgs/action/Grasp_SendGoal_Request": f"{UUID}franka_msgs/action/Grasp_Goal goal",
    "franka_msgs/action/Grasp_SendGoal_Response": "bool accepted\nbuiltin_interfaces/msg/Time stamp",
    "franka_msgs/action/Grasp_SendGoal_Event": "service_msgs/msg/ServiceEventInfo info\n"
    "franka_msgs/action/Grasp_SendGoal_Request[<=1] request\n"
    "franka_msgs/action/Grasp_SendGoal_Response[<=1] response",
}
STORE = get_typestore(Stores.ROS2_JAZZY)
for _name, _text in TEXTS.items():
    STORE.register(get_types_from_msg(_text, _name))

FEEDBACK = "control_msgs/action/GripperCommand_FeedbackMessage"
GOAL = "control_msgs/action/GripperCommand_SendGoal_Event"
MOVE, GRASP = "franka_msgs/action/Move_FeedbackMessage", "franka_msgs/action/Grasp_SendGoal_Event"
PARALLEL = f"{PAST}_FeedbackMessage"


def make(kind: str, /, **fields: Any) -> Any:
    return STORE.types[kind](**fields)


def uuid() -> Any:
    return make("unique_identifier_msgs/msg/UUID", uuid=np.zeros(16, np.uint8))


def time_zero() -> Any:
    return make("builtin_interfaces/msg/Time", sec=0, nanosec=0)


def feedback(position: float) -> Any:
    inner = make(
        "control_msgs/action/GripperCommand_Feedback",
        position=position,
        effort=0.0,
        stalled=False,
        reached_goal=False,
    )
    return make(FEEDBACK, goal_id=uuid(), feedback=inner)


def event(msgtype: str, kind: int, goal: Any | None, *, accepted: bool = False) -> Any:
    """A service event of an action: a request with its goal, or a response."""
    action = msgtype.removesuffix("_Event")
    info = make(
        "service_msgs/msg/ServiceEventInfo",
        event_type=kind,
        stamp=time_zero(),
        client_gid=np.zeros(16, np.uint8),
        sequence_number=1,
    )
    requests = [] if goal is None else [make(f"{action}_Request", goal_id=uuid(), goal=goal)]
    responses = [make(f"{action}_Response", accepted=True, stamp=time_zero())] if accepted else []
    return make(msgtype, info=info, request=requests, response=responses)


def gripper_goal(position: float) -> Any:
    command = make(GRIPPER_COMMAND, position=position, max_effort=5.0)
    return make("control_msgs/action/GripperCommand_Goal", command=command)


def grasp_goal(width: float) -> Any:
    epsilon = make("franka_msgs/msg/GraspEpsilon", inner=0.005, outer=0.005)
    return make("franka_msgs/action/Grasp_Goal", width=width, epsilon=epsilon, speed=0.1, force=30.0)


def parallel(name: str, position: float) -> Any:
    header = make("std_msgs/msg/Header", stamp=time_zero(), frame_id="")
    none = np.empty(0)
    state = make(
        "sensor_msgs/msg/JointState",
        header=header,
        name=[name],
        position=np.array([position]),
        velocity=none,
        effort=none,
    )
    return make(PARALLEL, goal_id=uuid(), feedback=make(f"{PAST}_Feedback", state=state))


def move(width: float) -> Any:
    inner = make("franka_msgs/action/Move_Feedback", current_width=width)
    return make(MOVE, goal_id=uuid(), feedback=inner)


@pytest.mark.parametrize(
    ("msgtype", "message", "names", "position"),
    [
        # The Franka's feedback of GripperCommand is the whole opening, its goal half of it, as its joint is.
        (FEEDBACK, feedback(0.06), (), 0.03),
        (GOAL, event(GOAL, 1, gripper_goal(0.02)), (), 0.02),
        (MOVE, move(0.07), (), 0.035),
        (GRASP, event(GRASP, 0, grasp_goal(0.05)), (), 0.025),
        (PARALLEL, parallel(FINGER, 0.01), (), 0.01),
        # A joint that the user names, by its driver's name, which is the policy's here.
        (FEEDBACK, feedback(0.06), (FINGER,), 0.03),
    ],
)
def test_every_kind_of_action_is_read_without_a_definition_in_the_recording(
    msgtype: str, message: Any, names: tuple[str, ...], position: float
) -> None:
    """rosbag2 finds no .msg file of such a type and stores no definition: it was "of unknown type"."""
    raw = bytes(STORE.serialize_cdr(message, msgtype))
    read, reason = message_reader(Channel("/x", msgtype, "cdr", 1, "", False, 0))
    assert read is not None, reason
    (sample,) = CommandReader(msgtype, step_ns=NS_PER_MS).take(
        BagMessage("/x", msgtype, 7, None, 7, read(raw))
    )
    joints = RecordedJoints(ROBOT, wanted=ROBOT.joint_names)
    index, values = joints.read(sample, Feed("/x", msgtype, Role.ACTION, joints=names))
    assert [ROBOT.joint_names[i] for i in index] == [FINGER]
    assert values.tolist() == pytest.approx([position])


@pytest.mark.parametrize("kind", [2, 3])
def test_a_response_and_an_event_without_content_are_no_command(kind: int) -> None:
    reader = CommandReader(GOAL, step_ns=NS_PER_MS)
    for message in (event(GOAL, kind, None, accepted=True), event(GOAL, 1, None)):
        assert reader.take(BagMessage("/x", GOAL, 7, None, 7, message)) == []
    assert reader.rest(10**9) == []


def test_a_command_that_is_sent_once_stays_in_force_until_the_next_one_and_to_the_end() -> None:
    """Between two commands of a gripper nothing was known, and after three rows nothing was compared."""
    reader = CommandReader(GRIPPER_COMMAND, step_ns=100)
    said: list[tuple[int, float]] = []
    for at, value in ((1000, 0.04), (1350, 0.0)):
        message = BagMessage(
            "/x", GRIPPER_COMMAND, at, None, at, make(GRIPPER_COMMAND, position=value, max_effort=1.0)
        )
        said += [(one.time_ns, float(one.positions[0])) for one in reader.take(message)]
    said += [(one.time_ns, float(one.positions[0])) for one in reader.rest(1600)]
    assert said == [
        (1000, 0.04),
        (1100, 0.04),
        (1200, 0.04),
        (1300, 0.04),
        (1350, 0.0),
        (1450, 0.0),
        (1550, 0.0),
    ]


RATE = 20.0


class BareMcap:
    """A `BagFile` without any definition, as rosbag2 writes what it finds no .msg file of."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._writer = McapWriter(self._file)
        self._writer.start(profile="ros2", library="test")
        self._channels: dict[str, int] = {}

    def write(self, topic: str, msgtype: str, raw: bytes | memoryview, receive_ns: int) -> None:
        if topic not in self._channels:
            schema = self._writer.register_schema(msgtype, "", b"")
            self._channels[topic] = self._writer.register_channel(topic, "cdr", schema)
        self._writer.add_message(self._channels[topic], receive_ns, bytes(raw), receive_ns)

    def note(self, values: Mapping[str, str]) -> None:
        """Hold no facts."""

    def close(self) -> None:
        self._writer.finish()
        self._file.close()


def write_bag(out: Path, topic: str, msgtype: str, said: dict[int, Any]) -> Path:
    """Write a bag of the Franka whose arm is commanded on /arm_commands and whose gripper by row -> message."""
    file = BareMcap(out)
    bag = BagWriter(file)
    arm, gripper = ROBOT.groups
    for row in range(round(3 * RATE)):
        stamp_ns = EPOCH_NS + round(row * NS_PER_S / RATE)
        positions = positions_at(ROBOT, stamp_ns)
        bag.joint_state(f"/{arm.state_topic}", stamp_ns, names=arm.driver_names, positions=positions[:7])
        bag.joint_state(
            f"/{gripper.state_topic}", stamp_ns, names=gripper.driver_names, positions=positions[7:]
        )
        bag.joint_state("/arm_commands", stamp_ns, names=arm.driver_names, positions=positions[:7])
        bag.image("/head/image_raw", stamp_ns, frame_id="", rgb=fake_image(row, height=24, width=32))
        if row in said:
            file.write(topic, msgtype, bytes(STORE.serialize_cdr(said[row], msgtype)), stamp_ns)
    file.close()
    return out


@pytest.mark.parametrize(
    ("name", "msgtype", "made", "measured"),
    [
        (f"{ACTION}/feedback", FEEDBACK, lambda opening: feedback(2 * opening), True),
        (
            f"{ACTION}/send_goal/_service_event",
            GOAL,
            lambda opening: event(GOAL, 1, gripper_goal(opening)),
            False,
        ),
        (
            "/gripper/command",
            GRIPPER_COMMAND,
            lambda opening: make(GRIPPER_COMMAND, position=opening, max_effort=1.0),
            False,
        ),
    ],
)
def test_a_gripper_that_is_commanded_by_actions_is_converted_and_what_was_measured_is_named(
    tmp_path: Path, name: str, msgtype: str, made: Any, measured: bool
) -> None:
    bag = write_bag(tmp_path / "bag.mcap", name, msgtype, {0: made(0.04), 20: made(0.01), 40: made(0.03)})
    names = TopicNames(actions={"/arm_commands": (), name: (FINGER,)})
    options = BagOptions(names=names, fps=RATE, instruction="grasp")
    done = convert_bags([bag], tmp_path / "set", robot=ROBOT, options=options)
    dataset = open_dataset(tmp_path / "set")
    action = np.asarray(dataset.column(dataset.episodes[0], "action"))
    # Between two samples values are interpolated: at the last row before a command they may be between both.
    for first, last, opening in ((0, 18, 0.04), (20, 38, 0.01), (40, 58, 0.03)):
        np.testing.assert_allclose(action[first:last, 7], opening, atol=1e-6)
    told = [line for line in done.warnings if "feedback of an action" in line]
    assert len(told) == measured
    assert all(f"{ACTION}/send_goal/_service_event" in line for line in told)


def test_without_a_name_a_single_number_is_for_the_group_of_one_joint_or_the_error_says_how_to_name_it() -> (
    None
):
    joints = RecordedJoints(ROBOT, wanted=ROBOT.joint_names)
    reader = CommandReader(FLOAT64, step_ns=NS_PER_MS)
    message = STORE.types[FLOAT64](data=0.02)
    (sample,) = reader.take(BagMessage("/x", FLOAT64, 7, None, 7, message))
    index, values = joints.read(sample, Feed("/x", FLOAT64, Role.ACTION))
    assert ([ROBOT.joint_names[i] for i in index], values.tolist()) == ([FINGER], [0.02])
    (arm, gripper) = ROBOT.groups
    two = replace(ROBOT, groups=(arm, gripper, replace(gripper, name="other")))
    with pytest.raises(RecordingError, match=r"--action-topic /x=JOINT"):
        RecordedJoints(two, wanted=two.joint_names).read(sample, Feed("/x", FLOAT64, Role.ACTION))


def test_the_feedback_is_taken_as_an_action_topic_and_told(tmp_path: Path) -> None:
    topic = f"{ACTION}/feedback"
    bag = write_bag(tmp_path / "bag.mcap", topic, FEEDBACK, {0: feedback(0.04)})
    with Recording(bag) as recording:
        names = TopicNames(actions={topic: ()})
        binding = bind_cameras(recording, robot=ROBOT, cameras=("head",), names=names)
    assert binding.feeds[topic].role is Role.ACTION
    assert "not what was commanded" in " ".join(binding.warnings)


def test_a_replay_compares_the_gripper_between_the_messages_of_its_action(tmp_path: Path) -> None:
    topic = f"{ACTION}/feedback"
    bag = write_bag(tmp_path / "bag.mcap", topic, FEEDBACK, {0: feedback(0.08), 30: feedback(0.02)})
    policy = load_fake(PolicyRequest("fake", planner=True, executor=True), robot=ROBOT)
    settings = ReplaySettings(
        planner_latency_ns=100 * NS_PER_MS, executor_latency_ns=50 * NS_PER_MS, planner_period_ns=0
    )
    names = TopicNames(actions={"/arm_commands": (), topic: (FINGER,)})
    options = ReplayOptions(bag=bag, policy_name="fake", settings=settings, names=names)
    outcome = replay(options, robot=ROBOT, policy=policy, report=tmp_path / "report")
    assert outcome.summary["metrics"]["joints_compared"] == len(ROBOT.joints)
    assert outcome.summary["metrics"]["reference_share"] > 0.8
    assert any("not what was commanded" in line for line in outcome.summary["warnings"])
