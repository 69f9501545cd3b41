# SPDX-License-Identifier: Apache-2.0
"""Recordings of any robot file, with a motion that is known at every time, and ways to read them that are not ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.data.bag.topics import ACTION_TOPIC, EPOCH_NS, INSTRUCTION_TOPIC
from wam.data.bag.writing import BagWriter, Storage, new_bag
from wam.data.fakes import fake_image
from wam.robots.camera_spec import CameraSpec, CameraTransport
from wam.robots.description import RobotDescription
from wam.robots.loader import find_robot

RATE = 30.0
HEIGHT, WIDTH = 24, 32
Vector = npt.NDArray[np.float64]
States = Callable[[BagWriter, RobotDescription, int, Vector], Iterable[object]]
"""Writes the joint states of one time: bag, robot, stamp [ns], positions [N] (rad or m)."""


def with_camera(robot: RobotDescription) -> RobotDescription:
    """Return a robot with one small camera: what this is about is its joints."""
    camera = CameraSpec(
        "head",
        "head/image_raw",
        CameraTransport.RAW,
        "rgb8",
        HEIGHT,
        WIDTH,
        RATE,
        200 * NS_PER_MS,
        "head_optical",
    )
    return replace(robot, cameras=(camera,))


def file_with_small_cameras(name: str, folder: Path) -> Path:
    """Write the robot file `name` into `folder`, with images so small that only the joints take time.

    Samples may be old, so that a busy machine does not decide whether nodes answer.
    """
    content = yaml.safe_load(find_robot(name).read_text(encoding="utf-8"))
    for camera in content["cameras"]:
        camera |= {"height": HEIGHT, "width": WIDTH, "max_age": {"value": 1, "unit": "s"}}
    for group in content["groups"]:
        group["state"]["max_age"] = {"value": 1, "unit": "s"}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def positions_at(robot: RobotDescription, stamp_ns: int) -> Vector:
    """Return where the joints of every recording are at a time, between 20 and 80 % of their ranges, float64 [N]."""
    lower = np.array([joint.lower for joint in robot.joints])
    upper = np.array([joint.upper for joint in robot.joints])
    seconds = (stamp_ns - EPOCH_NS) / NS_PER_S
    return lower + (0.5 + 0.3 * np.sin(1.3 * seconds + np.arange(len(lower)))) * (upper - lower)


def write_bag(
    out: Path,
    robot: RobotDescription,
    states: States,
    *,
    seconds: float = 1.5,
    pauses: Iterable[tuple[float, float]] = (),
) -> Path:
    """Write a bag whose joint states are written by `states`; the action is the state of the next row.

    Args:
        out: folder of the bag.
        robot: all its joints and cameras are in the bag.
        states: how joint states are spread over messages.
        seconds: length [s].
        pauses: when the clock is set forward, and by how much [s].
    """
    pauses = tuple(pauses)
    with new_bag(out, storage=Storage.MCAP, metadata={"wam.robot": robot.name}) as bag:
        bag.text(INSTRUCTION_TOPIC, EPOCH_NS, "go")
        for row in range(round(seconds * RATE)):
            paused_ns = round(sum(NS_PER_S * length for at, length in pauses if row / RATE >= at))
            now_ns, next_ns = (EPOCH_NS + round(at * NS_PER_S / RATE) for at in (row, row + 1))
            stamp_ns = now_ns + paused_ns
            list(states(bag, robot, stamp_ns, positions_at(robot, now_ns)))
            commanded = positions_at(robot, next_ns)
            bag.joint_state(ACTION_TOPIC, stamp_ns, names=robot.joint_names, positions=commanded)
            for camera in robot.cameras:
                rgb = fake_image(row, height=camera.height, width=camera.width)
                if camera.transport is CameraTransport.RAW:
                    bag.image(f"/{camera.topic}", stamp_ns, frame_id="", rgb=rgb)
                else:
                    data = np.asarray(cv2.imencode(".jpg", rgb[..., ::-1])[1])
                    bag.jpeg(f"/{camera.topic}", stamp_ns, frame_id="", data=data)
    return out


def by_topic(bag: BagWriter, robot: RobotDescription, stamp_ns: int, positions: Vector) -> Iterator[object]:
    """One message per state topic, with the joints of all groups on it and some that are not the robot's."""
    topics: dict[str, tuple[list[str], list[float]]] = {}
    start = 0
    for group in robot.groups:
        names, values = topics.setdefault(group.state_topic, (["wheel"], [9.0]))
        names += group.driver_names
        values += (positions[start : start + len(group.joints)] / group.state_factors).tolist()
        start += len(group.joints)
    for topic, (names, values) in topics.items():
        yield bag.joint_state(f"/{topic}", stamp_ns, names=tuple(names), positions=np.array(values))


def one_by_one(bag: BagWriter, robot: RobotDescription, stamp_ns: int, positions: Vector) -> Iterator[object]:
    """A message per joint, each from a publisher of its own, and one of wheels."""
    start = 0
    for group in robot.groups:
        for joint, position in zip(group.joints, positions[start:], strict=False):
            value = position / joint.conversion.state
            yield bag.joint_state(
                f"/{group.state_topic}", stamp_ns, names=(joint.driver_name,), positions=np.array([value])
            )
        start += len(group.joints)
        yield bag.joint_state(f"/{group.state_topic}", stamp_ns, names=("wheel",), positions=np.array([3.0]))


def read_states(bag: Path, robot: RobotDescription) -> dict[int, dict[str, float]]:
    """Return stamp [ns] -> joint -> position (rad or m) of a bag's joint states, read by rosbags alone."""
    wanted: dict[str, dict[str, tuple[str, float]]] = {}
    for group in robot.groups:
        wanted.setdefault(f"/{group.state_topic}", {}).update(
            {joint.driver_name: (joint.name, joint.conversion.state) for joint in group.joints}
        )
    found: dict[int, dict[str, float]] = {}
    with AnyReader([bag], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
        connections = [one for one in reader.connections if one.topic in wanted]
        for connection, _, raw in reader.messages(connections):
            message: Any = reader.deserialize(raw, connection.msgtype)
            stamp_ns = message.header.stamp.sec * NS_PER_S + message.header.stamp.nanosec
            _take(found.setdefault(stamp_ns, {}), message, wanted[connection.topic])
    return found


def _take(into: dict[str, float], message: Any, wanted: Mapping[str, tuple[str, float]]) -> None:
    for name, position in zip(message.name, message.position, strict=True):
        if name in wanted:
            joint, factor = wanted[name]
            into[joint] = float(position) * factor


def fake_robot_file(folder: Path) -> Path:
    """Write a robot file of the joints and the camera of `fake_robot()`; messages may come at 10 Hz."""
    path = folder / "fake.yaml"
    path.write_text(FAKE_ROBOT, encoding="utf-8")
    return path


FAKE_ROBOT = """\
title: a recorded robot
groups:
  - name: body
    driver: none
    state: {topic: joint_states, rate: 10, max_age: {value: 300, unit: ms}}
    command: {kind: none}
    joints:
      - {name: j0, driver_name: d0, kind: revolute, lower: -3, upper: 3, velocity: 2, acceleration: 10, jerk: 100}
      - {name: j1, driver_name: d1, kind: revolute, lower: -3, upper: 3, velocity: 2, acceleration: 10, jerk: 100}
      - {name: j2, driver_name: d2, kind: revolute, lower: -3, upper: 3, velocity: 2, acceleration: 10, jerk: 100}
cameras:
  - {name: cam_high, topic: cam_high/image_raw/compressed, transport: compressed, encoding: jpeg, height: 48, width: 64,
     rate: 10, max_age: {value: 300, unit: ms}, frame_id: cam}
safety:
  chunk_timeout: {value: 300, unit: ms}
  max_jump: 0.5
  tracking_error: 0.5
  lead: {value: 50, unit: ms}
  blend: {value: 100, unit: ms}
"""
