# SPDX-License-Identifier: Apache-2.0
"""A recording that reaches the live ingest over DDS gives the same observations and chunks as offline replay."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from waiting import wait_until

from wam.core.clock import ManualClock
from wam.data.bag.reading import Recording
from wam.data.bag.stamps import BagMessage
from wam.data.fakes import fake_robot, write_fake_bag
from wam.evaluation.replay.engine import ChunkEvent, ContextEvent, Event, ReplaySettings
from wam.evaluation.replay.offline import OfflineReplay
from wam.robots.camera_spec import CameraTransport
from wam.robots.description import RobotDescription
from wam.runtime.ingest.ingest import StreamIngest
from wam.runtime.policy import PolicyRequest

rclpy = pytest.importorskip("rclpy")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 101 + 1))

pytestmark = pytest.mark.ros
SETTINGS = ReplaySettings(planner_latency_ns=100_000_000, executor_latency_ns=50_000_000, planner_period_ns=0)
Delivery = tuple[BagMessage, Callable[[StreamIngest], bool]]


class Stage:
    """Two nodes: one publishes what the bag holds, one has the ingest of the live nodes."""

    def __init__(self, robot: RobotDescription) -> None:
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node
        from rosbags.typesys import Stores, get_typestore
        from sensor_msgs.msg import CompressedImage, Image, JointState

        from wam.ros.ingest import RosIngest
        from wam.ros.qos import IMAGE_PUBLISHER, JOINT_STATE_PUBLISHER

        rclpy.init(args=[])
        camera, group = robot.cameras[0], robot.groups[0]
        self._player, self._listener = Node("player"), Node("listener")
        kind = Image if camera.transport is CameraTransport.RAW else CompressedImage
        self._publishers = {
            f"/{camera.topic}": self._player.create_publisher(kind, camera.topic, IMAGE_PUBLISHER),
            f"/{group.state_topic}": self._player.create_publisher(
                JointState, group.state_topic, JOINT_STATE_PUBLISHER
            ),
        }
        self.ingest = RosIngest(self._listener, robot, (camera.name,), ManualClock())
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._listener)
        self._store = get_typestore(Stores.ROS2_JAZZY)
        self._until(lambda: all(p.get_subscription_count() for p in self._publishers.values()), "discovery")

    def play(self, message: BagMessage) -> None:
        """Publish the message's bytes and wait until the ingest has taken or refused it."""
        before = self._taken()
        raw = bytes(self._store.serialize_cdr(message.message, message.msgtype))
        self._publishers[message.topic].publish(raw)
        self._until(lambda: self._taken() > before, message.topic)

    def close(self) -> None:
        self._executor.shutdown()
        for node in (self._player, self._listener):
            node.destroy_node()
        rclpy.try_shutdown()

    def _taken(self) -> int:
        return sum(stream.received + stream.refused for stream in self.ingest.stream.status())

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, what, turn=lambda: self._executor.spin_once(timeout_sec=0.05))


def put_offline(robot: RobotDescription, message: BagMessage) -> Callable[[StreamIngest], bool]:
    def deliver(ingest: StreamIngest) -> bool:
        if message.topic == f"/{robot.groups[0].state_topic}":
            ingest.put_joint_state(robot.groups[0].name, message.message)
            return False
        ingest.put_image(robot.cameras[0].name, message.message)
        return True

    return deliver


def put_live(robot: RobotDescription, message: BagMessage, stage: Stage) -> Callable[[StreamIngest], bool]:
    def deliver(ingest: StreamIngest) -> bool:
        assert ingest is stage.ingest.stream
        stage.play(message)
        return message.topic == f"/{robot.cameras[0].topic}"

    return deliver


def events(bag: Path, robot: RobotDescription, policy: str, stage: Stage | None) -> list[Event]:
    """Return what a replay gives, through a new policy of seed 7; with a stage, every message goes over DDS."""
    from wam.policies.loading import load_policy

    loaded = load_policy(PolicyRequest(policy, planner=True, executor=True, seed=7), robot=robot)
    replay = OfflineReplay(
        robot=robot,
        policy=loaded,
        settings=SETTINGS,
        ingest=stage.ingest.stream if stage is not None else None,
    )
    topics = [f"/{robot.groups[0].state_topic}", f"/{robot.cameras[0].topic}"]

    def deliveries(recording: Recording) -> Iterator[Delivery]:
        for message in recording.messages(topics):
            yield message, put_offline(robot, message) if stage is None else put_live(robot, message, stage)

    with Recording(bag) as recording:
        return list(replay.run(deliveries(recording)))


@pytest.mark.parametrize("transport", [CameraTransport.RAW, CameraTransport.COMPRESSED])
@pytest.mark.parametrize("policy", ["fake", "aha_wam/random"])
def test_bag_and_live_streams_give_the_same_observations_and_chunks(
    tmp_path: Path, transport: CameraTransport, policy: str
) -> None:
    if policy != "fake":
        pytest.importorskip("torch")
    robot = fake_robot(transport=transport)
    write_fake_bag(tmp_path / "bag", robot=robot, seconds=1.0, texture=5.0)
    offline = events(tmp_path / "bag", robot, policy, None)
    stage = Stage(robot)
    try:
        live = events(tmp_path / "bag", robot, policy, stage)
    finally:
        stage.close()
    assert [type(event) for event in live] == [type(event) for event in offline]
    chunks: list[tuple[Any, Any]] = [
        (a, b)
        for a, b in zip(offline, live, strict=True)
        if isinstance(a, ChunkEvent) and isinstance(b, ChunkEvent)
    ]
    assert len(chunks) >= 8
    for a, b in chunks:
        np.testing.assert_array_equal(a.chunk.rows, b.chunk.rows)
        assert (a.chunk.stamp_ns, a.chunk.context_version) == (b.chunk.stamp_ns, b.chunk.context_version)
        np.testing.assert_array_equal(a.observation.state.positions, b.observation.state.positions)
        for name, frame in a.observation.frames.items():
            assert frame.stamp_ns == b.observation.frames[name].stamp_ns
            np.testing.assert_array_equal(frame.rgb, b.observation.frames[name].rgb)
    stamps = [[e.header.stamp_ns for e in run if isinstance(e, ContextEvent)] for run in (offline, live)]
    assert stamps[0] == stamps[1]
