# SPDX-License-Identifier: Apache-2.0
"""Recorded commands as samples: what a later trajectory replaced was never commanded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from wam.core.clock import NS_PER_S
from wam.data.bag.binding import Role, TopicNames, bind_cameras
from wam.data.bag.commands import CommandReader
from wam.data.bag.reading import Recording
from wam.data.bag.stamps import BagMessage
from wam.data.bag.topics import JOINT_STATE, JOINT_TRAJECTORY
from wam.data.fakes import fake_robot, write_fake_bag
from wam.devices.loader import load_robot
from wam.evaluation.replay.engine import ReplayOptions, ReplaySettings
from wam.evaluation.replay.session import replay
from wam.policies.loading import load_policy
from wam.runtime.policy import PolicyRequest

MS = 1_000_000


def trajectory(stamp_ns: int, points: list[tuple[int, float]], *, time_ns: int = 0) -> BagMessage:
    content = SimpleNamespace(
        joint_names=["a"],
        points=[
            SimpleNamespace(positions=[x], time_from_start=SimpleNamespace(sec=0, nanosec=after_ns))
            for after_ns, x in points
        ],
    )
    return BagMessage("/t", JOINT_TRAJECTORY, time_ns, stamp_ns or None, time_ns or stamp_ns, content)


def pairs(samples: list[Any]) -> list[tuple[int, float]]:
    return [(sample.time_ns, float(sample.positions[0])) for sample in samples]


def test_a_trajectory_counts_until_the_next_one_starts() -> None:
    reader = CommandReader(JOINT_TRAJECTORY, step_ns=100 * MS)
    assert reader.take(trajectory(1000 * MS, [(50 * MS, 0.0), (100 * MS, 1.0), (150 * MS, 2.0)])) == []
    followed = reader.take(trajectory(1050 * MS, [(50 * MS, 9.0)]))
    assert pairs(followed) == [(1050 * MS, 0.0)]
    assert pairs(reader.rest(2000 * MS)) == [(1100 * MS, 9.0)]
    assert reader.rest(2000 * MS) == []


def test_points_far_apart_are_joined_by_a_line() -> None:
    reader = CommandReader(JOINT_TRAJECTORY, step_ns=50 * MS)
    reader.take(trajectory(1000 * MS, [(0, 0.0), (200 * MS, 4.0)]))
    assert pairs(reader.rest(2000 * MS)) == [((1000 + 50 * i) * MS, float(i)) for i in range(5)]


def test_an_empty_trajectory_cancels_what_was_under_way() -> None:
    reader = CommandReader(JOINT_TRAJECTORY, step_ns=100 * MS)
    reader.take(trajectory(1000 * MS, [(0, 0.0), (100 * MS, 1.0)]))
    assert pairs(reader.take(trajectory(1050 * MS, []))) == [(1000 * MS, 0.0)]
    assert reader.rest(2000 * MS) == []


def test_a_trajectory_without_a_stamp_starts_when_it_is_received() -> None:
    reader = CommandReader(JOINT_TRAJECTORY, step_ns=100 * MS)
    reader.take(trajectory(0, [(10 * MS, 1.0)], time_ns=700 * MS))
    assert pairs(reader.rest(2000 * MS)) == [(710 * MS, 1.0)]


def test_the_command_topic_of_a_trajectory_controller_is_found(tmp_path: Any) -> None:
    """Franka's arm takes trajectories, its gripper a joint state stream: both are the recorded action."""
    robot = load_robot("franka")
    store = get_typestore(Stores.ROS2_JAZZY)
    kinds = {group.name: group for group in robot.groups}
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for group in kinds.values():
            _write(writer, store, f"/{group.state_topic}", JOINT_STATE)
            is_trajectory = group.command_kind.value == "joint_trajectory"
            _write(
                writer, store, f"/{group.command_topic}", JOINT_TRAJECTORY if is_trajectory else JOINT_STATE
            )
    with Recording(tmp_path / "bag") as recording:
        binding = bind_cameras(recording, robot=robot, cameras=())
    actions = {feed.streams[0]: feed.msgtype for feed in binding.feeds.values() if feed.role is Role.ACTION}
    assert actions == {
        group.name: JOINT_TRAJECTORY if group.command_kind.value == "joint_trajectory" else JOINT_STATE
        for group in kinds.values()
    }
    assert JOINT_TRAJECTORY in actions.values()


def _write(writer: Any, store: Any, topic: str, msgtype: str) -> None:
    types = store.types
    header = types["std_msgs/msg/Header"](stamp=types["builtin_interfaces/msg/Time"](1, 0), frame_id="")
    empty = np.empty(0)
    if msgtype == JOINT_STATE:
        message = types[msgtype](header=header, name=[], position=empty, velocity=empty, effort=empty)
    else:
        message = types[msgtype](header=header, joint_names=[], points=[])
    connection = writer.add_connection(topic, msgtype, typestore=store)
    writer.write(connection, 1, store.serialize_cdr(message, msgtype))


def test_a_replay_is_judged_against_the_trajectories_that_were_sent(tmp_path: Any) -> None:
    """The recorded action is a trajectory topic: its interpolated points are the reference, not the later states."""
    robot = fake_robot()
    group = robot.groups[0]
    store = get_typestore(Stores.ROS2_JAZZY)
    write_fake_bag(tmp_path / "plain", robot=robot, seconds=2.0, action=False)
    with Recording(tmp_path / "plain") as plain, _bag(tmp_path / "bag") as writer:
        connections: dict[str, Any] = {}
        for message in plain.messages([topic.name for topic in plain.topics]):
            _copy(writer, store, connections, message)
            if message.topic == f"/{group.state_topic}":
                _send(writer, store, connections, message.time_ns, group.joint_names)
    options = ReplayOptions(
        bag=tmp_path / "bag",
        policy_name="fake",
        settings=ReplaySettings(planner_latency_ns=50_000_000, executor_latency_ns=20_000_000),
        names=TopicNames(actions={"/arm/trajectory": ()}),
    )
    request = PolicyRequest("fake", planner=True, executor=True)
    policy = load_policy(request, robot=robot)
    outcome = replay(options, robot=robot, policy=policy, report=tmp_path / "report")
    assert outcome.summary["settings"]["reference"] == "recorded action"
    # Every trajectory leads to 1 rad in all joints and is replaced before it gets there: its first point counts.
    assert outcome.summary["metrics"]["hold_l1"] == pytest.approx(CONSTANT_HOLD_ERROR, rel=0.2)


CONSTANT_HOLD_ERROR = 0.6
"""Mean distance of the recorded sine (amplitude 0.5) from the commanded 0.6 rad, roughly."""


def _bag(path: Any) -> Writer:
    return Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)


def _copy(writer: Any, store: Any, connections: dict[str, Any], message: BagMessage) -> None:
    if message.topic not in connections:
        connections[message.topic] = writer.add_connection(message.topic, message.msgtype, typestore=store)
    raw = store.serialize_cdr(message.message, message.msgtype)
    writer.write(connections[message.topic], message.receive_ns, raw)


def _send(writer: Any, store: Any, connections: dict[str, Any], time_ns: int, names: tuple[str, ...]) -> None:
    """Command 0.6 rad at once and 1 rad in a tenth of a second, which the next trajectory replaces."""
    types = store.types
    points = [
        types["trajectory_msgs/msg/JointTrajectoryPoint"](
            positions=np.full(len(names), position),
            velocities=np.empty(0),
            accelerations=np.empty(0),
            effort=np.empty(0),
            time_from_start=types["builtin_interfaces/msg/Duration"](0, after_ns),
        )
        for position, after_ns in ((0.6, 0), (1.0, 100 * MS))
    ]
    stamp = types["builtin_interfaces/msg/Time"](time_ns // NS_PER_S, time_ns % NS_PER_S)
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="")
    content = types[JOINT_TRAJECTORY](header=header, joint_names=list(names), points=points)
    message = BagMessage("/arm/trajectory", JOINT_TRAJECTORY, time_ns, time_ns, time_ns, content)
    _copy(writer, store, connections, message)
