# SPDX-License-Identifier: Apache-2.0
"""Recorded commands as samples: what a later trajectory replaced was never commanded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from wam.replay.binding import Role, bind_cameras
from wam.replay.commands import JOINT_TRAJECTORY, CommandReader
from wam.replay.reading import Recording
from wam.replay.stamps import BagMessage
from wam.replay.writing import JOINT_STATE
from wam.robots.loader import load_robot

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
    assert pairs(reader.rest()) == [(1100 * MS, 9.0)]
    assert reader.rest() == []


def test_points_far_apart_are_joined_by_a_line() -> None:
    reader = CommandReader(JOINT_TRAJECTORY, step_ns=50 * MS)
    reader.take(trajectory(1000 * MS, [(0, 0.0), (200 * MS, 4.0)]))
    assert pairs(reader.rest()) == [((1000 + 50 * i) * MS, float(i)) for i in range(5)]


def test_an_empty_trajectory_cancels_what_was_under_way() -> None:
    reader = CommandReader(JOINT_TRAJECTORY, step_ns=100 * MS)
    reader.take(trajectory(1000 * MS, [(0, 0.0), (100 * MS, 1.0)]))
    assert pairs(reader.take(trajectory(1050 * MS, []))) == [(1000 * MS, 0.0)]
    assert reader.rest() == []


def test_a_trajectory_without_a_stamp_starts_when_it_is_received() -> None:
    reader = CommandReader(JOINT_TRAJECTORY, step_ns=100 * MS)
    reader.take(trajectory(0, [(10 * MS, 1.0)], time_ns=700 * MS))
    assert pairs(reader.rest()) == [(710 * MS, 1.0)]


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
    actions = {feed.stream: feed.msgtype for feed in binding.feeds.values() if feed.role is Role.ACTION}
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
