# SPDX-License-Identifier: Apache-2.0
"""Planner and executor nodes on real DDS: images and joint states in, contexts and chunks out."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image

from wam.core.clock import ManualClock
from wam.core.context import MAX_MESSAGE_BYTES
from wam.core.errors import ConfigError, ContractMismatch
from wam.core.fakes import FakeExecutor, FakePlanner, ImaginingExecutor
from wam.core.input_guard import InputReason
from wam.core.observation import Instruction, Observation
from wam.core.policy import Features, LoadedPolicy
from wam.devices.loader import load_robot
from wam.robots.description import RobotDescription
from wam.ros.conversions import time_to_ns
from wam.ros.ingest import CameraSubscription, SharedIngest
from wam.ros.inputs import Inputs
from wam.ros.qos import IMAGE, IMAGE_PUBLISHER, IMAGINED, SAFETY_STATUS
from wam.runtime.imagination import ImaginationError
from wam.runtime.policy import PolicyRequest, load_fake
from wam.stack.topics import imagination_errors
from wam_msgs.msg import ExecutorStatus, KVContext, PlannerStatus, SafetyStatus
from wam_msgs.srv import SetInstruction

pytestmark = pytest.mark.ros
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
TIMEOUT_S = 20.0


def load_other_contract(request: PolicyRequest, *, robot: RobotDescription) -> LoadedPolicy:
    """The fake policy under another contract hash, as another checkpoint would have."""
    loaded = load_fake(request, robot=robot)
    contract = dataclasses.replace(loaded.contract, contract_hash="b" * 64)
    return dataclasses.replace(loaded, contract=contract, planner=loaded.planner and FakePlanner(contract))


def test_two_nodes_in_two_threads_turn_images_into_contexts_and_chunks(stage: Any) -> None:
    stage.bring_up(stage.planner(), stage.act())
    world = stage.world
    stage.until(lambda: len(world.chunks) >= 5, "five chunks")
    chunk, context = world.chunks[-1], world.contexts[-1]
    assert context.transport == KVContext.TRANSPORT_SHARED_MEMORY
    assert len(context.data) == 0
    assert len(serialize_message(context)) <= MAX_MESSAGE_BYTES
    assert chunk.contract_hash == context.contract_hash
    assert chunk.num_rows * 26 == len(chunk.positions)
    assert [c.sequence for c in world.chunks] == sorted({c.sequence for c in world.chunks})
    stage.until(lambda: any(s.state == ExecutorStatus.STATE_RUNNING for s in world.executor_status), "status")
    stage.until(lambda: any(s.version > 0 for s in world.planner_status), "planner status")


def test_composed_nodes_share_one_subscription_per_camera_and_copy_nothing(stage: Any) -> None:
    host = stage.add(Node("wam_ingest"))
    shared = SharedIngest(host)
    executor = stage.act(shared_ingest=shared, composed=True)
    planner = stage.planner(shared_ingest=shared, sink=executor.offer_context)
    stage.bring_up(executor, planner)
    world = stage.world
    stage.until(lambda: len(world.chunks) >= 5, "five chunks")
    assert world.contexts[-1].transport == KVContext.TRANSPORT_IN_PROCESS
    camera = world.robot.cameras[0]
    assert stage.world.node.count_subscribers(camera.topic) == 1


def test_the_executor_hears_how_fast_a_slowed_robot_moves(stage: Any) -> None:
    executor = stage.act()
    stage.bring_up(executor)
    safety = stage.add(Node("wam_safety"))
    status = safety.create_publisher(SafetyStatus, "wam_safety/safety_status", SAFETY_STATUS)
    status.publish(SafetyStatus(code="robot_slowed", rate=0.25))
    stage.until(lambda: executor.cycle.pace == 0.25, "the pace")
    status.publish(SafetyStatus(code="horizon_short", rate=0.5))
    stage.until(lambda: executor.cycle.pace == 1.0, "full pace")


def test_the_instruction_service_starts_a_new_generation_that_reaches_the_chunks(stage: Any) -> None:
    stage.bring_up(stage.planner(), stage.act())
    world = stage.world
    stage.until(lambda: bool(world.chunks), "a chunk")
    client = world.node.create_client(SetInstruction, "wam_planner/set_instruction")
    stage.until(client.service_is_ready, "the service")
    answer = client.call_async(SetInstruction.Request(instruction="open the drawer"))
    stage.until(answer.done, "the answer")
    assert answer.result().success
    assert answer.result().generation == 2
    stage.until(lambda: world.chunks[-1].generation == 2, "a chunk of generation 2")
    refused = client.call_async(SetInstruction.Request(instruction="x" * 300))
    stage.until(refused.done, "the refusal")
    assert not refused.result().success
    assert "1 .. 256 characters" in refused.result().message
    assert refused.result().generation == 2


def test_a_silent_camera_is_named_in_both_statuses_and_recovers(stage: Any) -> None:
    world = stage.world
    world.camera_on = False
    stage.bring_up(stage.planner(), stage.act())
    stage.until(
        lambda: (
            bool(world.planner_status) and "cam_high/image_raw/compressed" in world.planner_status[-1].reason
        ),
        "the planner names the topic",
    )
    assert world.planner_status[-1].state == PlannerStatus.STATE_WAITING
    assert not world.chunks
    world.camera_on = True
    stage.until(lambda: bool(world.chunks), "a chunk")


def smaller(world: Any) -> None:
    _, jpeg = cv2.imencode(".jpg", np.zeros((120, 160, 3), dtype=np.uint8))
    world._jpeg = jpeg.tobytes()


def damaged(world: Any) -> None:
    world._jpeg = world._jpeg[:200]


def of_another_format(world: Any) -> None:
    world._jpeg = b"BM" + world._jpeg


@pytest.mark.parametrize(
    ("spoil", "texts"),
    [
        (smaller, ("cam_high", "120", "480")),
        (damaged, ("cam_high",)),
        (of_another_format, ("cam_high",)),
    ],
)
def test_a_camera_of_another_size_or_encoding_is_named_and_nothing_is_planned(
    stage: Any, spoil: Any, texts: tuple[str, ...]
) -> None:
    world = stage.world
    good = world._jpeg
    spoil(world)
    stage.bring_up(stage.planner(), stage.act())
    stage.until(
        lambda: bool(world.planner_status) and all(text in world.planner_status[-1].reason for text in texts),
        "the planner's reason",
    )
    assert not world.chunks
    world._jpeg = good
    stage.until(lambda: bool(world.chunks), "a chunk")


def test_two_cameras_on_one_topic_are_both_named_and_their_images_are_not_used(stage: Any) -> None:
    """Their images would be taken for those of one camera that jumps to and fro."""
    world = stage.world
    stage.bring_up(stage.planner(), stage.act())
    stage.until(lambda: bool(world.chunks), "a chunk")
    other = stage.add(Node("other_camera"))
    publisher = other.create_publisher(CompressedImage, world.robot.cameras[0].topic, IMAGE_PUBLISHER)
    stage.until(
        lambda: any("/other_camera, /world" in status.reason for status in world.planner_status),
        "the planner names both",
    )
    other.destroy_publisher(publisher)
    count = len(world.chunks)
    stage.until(lambda: len(world.chunks) > count + 2, "chunks again")


@pytest.mark.parametrize("reliable", [True, False])
def test_a_camera_is_heard_as_it_is_published(stage: Any, reliable: bool) -> None:
    """Best effort loses a large image with one fragment; reliable hears nothing of a best-effort camera."""
    camera = dataclasses.replace(load_robot("g1_inspire").cameras[0], topic="other/image_raw/compressed")
    heard: list[Any] = []
    subscription = CameraSubscription(Inputs(stage.world.node, ManualClock()), camera, heard.append)
    assert not subscription.reliable, "before a publisher is seen both would match"
    other = stage.add(Node("other_camera"))
    publisher = other.create_publisher(CompressedImage, camera.topic, IMAGE_PUBLISHER if reliable else IMAGE)
    other.create_timer(0.05, lambda: publisher.publish(CompressedImage()))
    stage.world.node.create_timer(0.05, subscription.match)
    stage.until(lambda: subscription.publishers == ("/other_camera",), "discovery")
    heard.clear()
    stage.until(lambda: len(heard) > 2, "its images")
    assert subscription.reliable is reliable
    subscription.close()


def test_a_clock_that_stands_still_stops_neither_reports_nor_the_look_for_cameras(stage: Any) -> None:
    """Both hung on timers of `/clock`: a node waited for a recording that had not begun was silent and blind."""
    planner = stage.planner()
    planner.set_parameters([Parameter("use_sim_time", value=True)])
    stage.bring_up(planner)
    (camera,) = planner._ingest.cameras.values()
    stage.until(lambda: camera.publishers == ("/world",), "discovery of the camera")
    stage.until(lambda: len(stage.world.planner_status) > 1, "status again and again")
    assert planner.get_clock().now().nanoseconds == 0


def test_activation_refuses_a_planner_of_another_contract_and_names_both_sides(stage: Any) -> None:
    stage.bring_up(stage.planner(load_policy=load_other_contract))
    executor = stage.act()
    assert executor.trigger_configure() == SUCCESS
    stage.until(lambda: executor.count_publishers("wam_planner/contract") == 1, "discovery of the planner")
    assert executor.trigger_activate() == FAILURE
    assert isinstance(executor.last_error, ContractMismatch)
    text = str(executor.last_error)
    assert "executor /wam_executor has contract ffffffffffff" in text
    assert "planner on /wam_planner/contract has bbbbbbbbbbbb" in text


def test_a_planner_of_another_contract_that_comes_later_is_refused_and_the_executor_waits(stage: Any) -> None:
    """One context of another policy, 308 bytes from anybody, put the executor in FAULT until it was cycled."""
    executor = stage.act()
    stage.bring_up(executor)
    stage.bring_up(stage.planner(load_policy=load_other_contract))
    world = stage.world
    stage.until(
        lambda: any("were built for different policies" in one.reason for one in world.executor_status),
        "the executor's reason",
    )
    assert world.executor_status[-1].state == ExecutorStatus.STATE_WAITING
    assert not world.chunks
    assert executor.inputs.refused()["wam_planner/context"][InputReason.CONTRACT] > 0


def test_a_planner_that_goes_away_is_named_and_a_new_one_is_taken(stage: Any) -> None:
    planner = stage.planner()
    stage.bring_up(planner, stage.act())
    world = stage.world
    stage.until(lambda: bool(world.chunks), "a chunk")
    assert planner.trigger_deactivate() == SUCCESS
    assert planner.trigger_cleanup() == SUCCESS
    stage.until(
        lambda: any(
            "no planner publishes on /wam_planner/context" in s.reason for s in world.executor_status
        ),
        "the executor says that the planner has gone",
    )
    count = len(world.chunks)
    stage.bring_up(planner)
    stage.until(lambda: len(world.chunks) > count + 2, "chunks again")


def test_a_wrong_robot_name_refuses_to_configure_and_lists_the_robots(stage: Any) -> None:
    node = stage.planner(
        parameter_overrides=[Parameter("robot", value="pipper"), Parameter("policy", value="fake")]
    )
    assert node.trigger_configure() == FAILURE
    assert isinstance(node.last_error, ConfigError)
    assert "g1_inspire" in str(node.last_error)


def test_imagined_images_are_decoded_and_published_only_while_somebody_listens(stage: Any) -> None:
    executors: list[ImaginingExecutor] = []

    def load_imagining(request: PolicyRequest, *, robot: RobotDescription) -> LoadedPolicy:
        loaded = load_fake(request, robot=robot)
        executors.append(ImaginingExecutor(loaded.contract))
        return dataclasses.replace(loaded, executor=executors[-1])

    stage.bring_up(stage.planner(), stage.act(load_policy=load_imagining))
    world = stage.world
    stage.until(lambda: len(world.chunks) >= 3, "three chunks")
    assert executors[0].imagination.decoded == []
    images: list[Image] = []
    listener = world.node.create_subscription(Image, "wam_executor/imagined_image", images.append, IMAGINED)
    stage.until(lambda: len(images) >= 2, "two imagined images")
    world.node.destroy_subscription(listener)
    camera = world.robot.cameras[0]
    image = images[-1]
    assert (image.header.frame_id, image.encoding) == (camera.name, "rgb8")
    assert (image.height, image.width, len(image.data)) == (
        camera.height,
        camera.width,
        3 * camera.width * camera.height,
    )
    ends_ns = {
        time_to_ns(c.header.stamp) + c.num_rows * (c.row_period.sec * 10**9 + c.row_period.nanosec)
        for c in world.chunks
    }
    assert time_to_ns(image.header.stamp) in ends_ns


class PerceivingPlanner(FakePlanner):
    """Perceives the mean colour of every camera, and foresees that nothing changes in half a second."""

    def plan(self, observation: Observation, *, instruction: Instruction) -> Any:
        """Remember what was seen."""
        self.observation = observation
        return super().plan(observation, instruction=instruction)

    def perceive(self, observation: Observation) -> Features:
        """Return float32 [3] for each camera."""
        return {
            name: frame.rgb.reshape(-1, 3).mean(0).astype(np.float32)
            for name, frame in observation.frames.items()
        }

    def foresee(self) -> Any:
        """Return the present as the future."""
        stamp_ns = self.observation.stamp_ns
        return Still(stamp_ns, stamp_ns + 500_000_000, self.perceive(self.observation))


@dataclasses.dataclass
class Still:
    """An `Imagination` of the same as now."""

    stamp_ns: int
    target_stamp_ns: int
    seen: Features

    def features(self) -> Features:
        return self.seen


class StillExecutor(FakeExecutor):
    """Imagines the present half a second later."""

    imagination: Still | None = None

    def route(self, observation: Observation, *, context: Any) -> Any:
        """Remember what was seen."""
        stamp_ns = observation.stamp_ns
        seen = PerceivingPlanner.perceive(None, observation)  # type: ignore[arg-type]  # it has no state
        self.imagination = Still(stamp_ns, stamp_ns + 500_000_000, seen)
        return super().route(observation, context=context)


@pytest.mark.parametrize("where", ["wam_planner", "wam_executor"])
def test_the_node_that_runs_the_policy_tells_how_far_off_its_imagination_was(stage: Any, where: str) -> None:
    """In live replay the policy is in another process, and its imagination was never compared."""

    def load(request: PolicyRequest, *, robot: RobotDescription) -> LoadedPolicy:
        loaded = load_fake(request, robot=robot)
        contract = loaded.contract
        both = where == "wam_executor" and request.executor
        assert (request.planner and request.executor) is both, (
            "the other half is loaded only where it is needed"
        )
        return dataclasses.replace(
            loaded,
            planner=PerceivingPlanner(contract) if request.planner else None,
            executor=StillExecutor(contract) if both else loaded.executor,
        )

    def overrides(node: str, period: float) -> list[Parameter]:
        values = {
            "robot": "g1_inspire",
            "policy": "fake",
            "period": period,
            "imagination_error": node == where,
        }
        return [Parameter(name, value=value) for name, value in values.items()]

    world = stage.world
    errors: list[ImaginationError] = []
    topic = imagination_errors(where)
    world.node.create_subscription(
        topic.kind, topic.name, lambda message: errors.append(topic.decode(message)), topic.qos
    )
    stage.bring_up(
        stage.planner(load_policy=load, parameter_overrides=overrides("wam_planner", 0.05)),
        stage.act(load_policy=load, parameter_overrides=overrides("wam_executor", 0.02)),
    )
    stage.until(lambda: len(errors) >= 3, "three errors")
    for error in errors:
        assert error.target_stamp_ns - error.stamp_ns == 500_000_000
        assert error.mse == pytest.approx(error.still_mse), "the present was imagined"
    assert len({error.sequence for error in errors}) == len(errors)


def test_a_planner_that_does_not_perceive_is_refused_where_its_imagination_is_to_be_judged(
    stage: Any,
) -> None:
    def load(request: PolicyRequest, *, robot: RobotDescription) -> LoadedPolicy:
        loaded = load_fake(request, robot=robot)
        return dataclasses.replace(loaded, executor=ImaginingExecutor(loaded.contract))

    overrides = [
        Parameter("robot", value="g1_inspire"),
        Parameter("policy", value="fake"),
        Parameter("imagination_error", value=True),
    ]
    executor = stage.act(load_policy=load, parameter_overrides=overrides)
    assert executor.trigger_configure() == FAILURE
    assert isinstance(executor.last_error, ContractMismatch)
    assert "cannot say what it perceives" in str(executor.last_error)


def test_an_unknown_imagined_camera_is_refused_with_those_that_exist(stage: Any) -> None:
    overrides = [
        Parameter("robot", value="g1_inspire"),
        Parameter("policy", value="fake"),
        Parameter("imagined_camera", value="elbow"),
    ]
    executor = stage.act(parameter_overrides=overrides)
    assert executor.trigger_configure() == FAILURE
    assert isinstance(executor.last_error, ConfigError)
    assert "'elbow'" in str(executor.last_error)
    assert stage.world.robot.cameras[0].name in str(executor.last_error)
