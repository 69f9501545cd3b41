# SPDX-License-Identifier: Apache-2.0
"""The one path from messages to observations: stamps decide, faults are named once, nothing stale gets through."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.core.errors import ImageError, JointError, StaleObservation
from wam.robots.description import (
    CameraSpec,
    CameraTransport,
    CommandKind,
    JointGroup,
    JointKind,
    JointSpec,
    RobotDescription,
    SafetyBudget,
)
from wam.runtime.ingest.ingest import FUTURE_TOLERANCE_NS, RECOVERED_AFTER, NoticeKind, StreamIngest
from wam.runtime.ingest.stream_buffer import RESET_TOLERANCE_NS

T0 = 1000 * NS_PER_S
HEIGHT, WIDTH = 4, 6
NAMES = ("joint1", "gripper")


def group(name: str) -> JointGroup:
    return JointGroup(
        name=name,
        joints=(
            JointSpec(f"{name}_joint1", "joint1", JointKind.REVOLUTE, -1.0, 1.0, 1.0, 1.0, 1.0),
            JointSpec(f"{name}_gripper", "gripper", JointKind.PRISMATIC, 0.0, 0.07, 1.0, 1.0, 1.0),
        ),
        state_topic=f"{name}/joint_states_single",
        state_rate=200.0,
        state_max_age_ns=50 * NS_PER_MS,
        command_kind=CommandKind.NONE,
        command_topic="",
        command_rate=0.0,
    )


def camera(name: str, transport: CameraTransport = CameraTransport.RAW) -> CameraSpec:
    return CameraSpec(
        name, f"{name}/image_raw", transport, "rgb8", HEIGHT, WIDTH, 15.0, 200 * NS_PER_MS, "optical"
    )


ROBOT = RobotDescription(
    name="test",
    title="Test",
    urdf=None,
    xacro_args=(),
    srdf=None,
    groups=(group("left"), group("right")),
    cameras=(camera("head"), camera("wrist", CameraTransport.COMPRESSED)),
    safety=SafetyBudget(NS_PER_S, 0.1, 0.1, 0, 0),
    source=Path("test.yaml"),
)


def stamped(stamp_ns: int, **fields: object) -> SimpleNamespace:
    stamp = SimpleNamespace(sec=stamp_ns // NS_PER_S, nanosec=stamp_ns % NS_PER_S)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp), **fields)


def image(
    stamp_ns: int, *, colour: int = 50, encoding: str = "rgb8", height: int = HEIGHT
) -> SimpleNamespace:
    data = bytes([colour]) * (height * WIDTH * 3)
    return stamped(
        stamp_ns, height=height, width=WIDTH, encoding=encoding, step=WIDTH * 3, is_bigendian=0, data=data
    )


def jpeg(stamp_ns: int, *, keep: float = 1.0) -> SimpleNamespace:
    data = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))[1].tobytes()
    return stamped(stamp_ns, format="jpeg", data=data[: int(len(data) * keep)])


def joints(
    stamp_ns: int,
    position: tuple[float, ...] = (0.1, 0.02),
    *,
    names: tuple[str, ...] = NAMES,
    velocity: tuple[float, ...] = (0.5,),
) -> SimpleNamespace:
    return stamped(stamp_ns, name=list(names), position=list(position), velocity=list(velocity), effort=[])


def fed(*, now_ns: int = T0, cameras: tuple[str, ...] = ("head",)) -> StreamIngest:
    """Return an ingest that can assemble at `now_ns`."""
    ingest = StreamIngest(ROBOT, cameras=cameras)
    for name in ("left", "right"):
        ingest.put_joint_state(name, joints(now_ns))
    for name in cameras:
        ingest.put_image(name, image(now_ns) if name == "head" else jpeg(now_ns))
    return ingest


def texts(ingest: StreamIngest) -> list[str]:
    return [f"{notice.kind.value}: {notice.text}" for notice in ingest.take_notices()]


def test_all_streams_are_merged_in_the_robots_order() -> None:
    ingest = fed()
    ingest.put_joint_state(
        "left", joints(T0 + 1, (0.07, -0.4), names=("gripper", "joint1"), velocity=(0.3, 0.2))
    )
    ingest.put_image("head", image(T0 + 2, colour=7))
    observation = ingest.assemble(now_ns=T0 + 3)
    assert observation.stamp_ns == T0 + 2
    assert observation.state.joint_names == ("left_joint1", "left_gripper", "right_joint1", "right_gripper")
    np.testing.assert_array_equal(observation.state.positions, [-0.4, 0.07, 0.1, 0.02])
    np.testing.assert_array_equal(observation.state.velocities, [0.2, 0.3, 0.5, np.nan])
    assert observation.state.stamp_ns == T0
    np.testing.assert_array_equal(observation.frames["head"].rgb, np.full((HEIGHT, WIDTH, 3), 7))


def test_the_first_cameras_newest_image_is_the_reference_and_others_come_before_it() -> None:
    ingest = fed(cameras=("head", "wrist"))
    ingest.put_image("wrist", jpeg(T0 + 20))
    ingest.put_joint_state("left", joints(T0 + 20, (0.9, 0.0)))
    observation = ingest.assemble(now_ns=T0 + 30)
    assert observation.stamp_ns == T0
    assert observation.frames["wrist"].stamp_ns == T0
    assert observation.state.positions[0] == 0.1


def test_an_image_that_arrives_late_meets_the_joint_state_of_its_own_time() -> None:
    ingest = fed()
    for i in range(1, 30):
        for name in ("left", "right"):
            ingest.put_joint_state(name, joints(T0 + i * 5 * NS_PER_MS, (i / 100, 0.0)))
    ingest.put_image("head", image(T0 + 52 * NS_PER_MS))
    observation = ingest.assemble(now_ns=T0 + 145 * NS_PER_MS)
    assert observation.state.positions[0] == pytest.approx(0.10)
    assert observation.state.stamp_ns == T0 + 50 * NS_PER_MS


def test_without_cameras_the_joint_states_are_the_reference() -> None:
    ingest = fed(cameras=())
    ingest.put_joint_state("left", joints(T0 + 10))
    observation = ingest.assemble(now_ns=T0 + 10)
    assert observation.stamp_ns == T0
    assert not observation.frames


def test_the_robot_state_needs_no_camera() -> None:
    ingest = StreamIngest(ROBOT, cameras=("head",))
    ingest.put_joint_state("left", joints(T0))
    ingest.put_joint_state("right", joints(T0 + 5))
    assert ingest.robot_state(now_ns=T0 + 5).stamp_ns == T0
    with pytest.raises(StaleObservation, match="joint group 'left'"):
        ingest.robot_state(now_ns=T0 + 51 * NS_PER_MS)


def test_an_image_is_decoded_once_for_two_readers() -> None:
    ingest = fed()
    first, second = ingest.assemble(now_ns=T0), ingest.assemble(now_ns=T0 + 1)
    assert first.frames["head"] is second.frames["head"]


@pytest.mark.parametrize("missing", ["head", "wrist", "left", "right"])
def test_a_silent_stream_is_named(missing: str) -> None:
    ingest = StreamIngest(ROBOT, cameras=("head", "wrist"))
    if missing != "head":
        ingest.put_image("head", image(T0))
    if missing != "wrist":
        ingest.put_image("wrist", jpeg(T0))
    for name in {"left", "right"} - {missing}:
        ingest.put_joint_state(name, joints(T0))
    with pytest.raises(StaleObservation, match=f"'{missing}' .*: nothing has arrived yet"):
        ingest.assemble(now_ns=T0)


def test_a_stale_image_names_stream_age_and_budget() -> None:
    ingest = fed()
    now_ns = T0 + 201 * NS_PER_MS
    for name in ("left", "right"):
        ingest.put_joint_state(name, joints(now_ns))
    budget = r"camera 'head' \(topic head/image_raw\): .*stale: got '201 ms'; allowed: at most 200 ms"
    with pytest.raises(StaleObservation, match=budget):
        ingest.assemble(now_ns=now_ns)


def test_a_driver_that_died_is_stale_although_the_image_still_has_a_state() -> None:
    ingest = fed()
    with pytest.raises(
        StaleObservation, match=r"joint group 'left' .*is stale: got '51 ms'; allowed: at most 50 ms"
    ):
        ingest.assemble(now_ns=T0 + 51 * NS_PER_MS)


def test_a_gap_in_the_joint_states_before_the_image_is_refused() -> None:
    ingest = fed()
    image_ns = T0 + 60 * NS_PER_MS
    ingest.put_image("head", image(image_ns))
    for name in ("left", "right"):
        ingest.put_joint_state(name, joints(image_ns + 10 * NS_PER_MS))
    with pytest.raises(
        StaleObservation, match=r"'left' .*too far from it: got '60 ms'; allowed: at most 50 ms"
    ):
        ingest.assemble(now_ns=image_ns + 10 * NS_PER_MS)


def test_an_image_older_than_every_joint_state_is_refused() -> None:
    ingest = StreamIngest(ROBOT, cameras=("head",))
    ingest.put_image("head", image(T0))
    for name in ("left", "right"):
        ingest.put_joint_state(name, joints(T0 + 1))
    with pytest.raises(StaleObservation, match="no sample at or before the reference image"):
        ingest.assemble(now_ns=T0 + 1)


def test_a_stamp_ahead_of_the_clock_is_refused() -> None:
    ingest = fed(now_ns=T0)
    assert ingest.assemble(now_ns=T0 - FUTURE_TOLERANCE_NS).stamp_ns == T0
    with pytest.raises(StaleObservation, match="the clocks differ: got '101 ms ahead'"):
        ingest.assemble(now_ns=T0 - FUTURE_TOLERANCE_NS - NS_PER_MS)


def test_a_message_out_of_order_is_used_at_its_own_time() -> None:
    ingest = fed()
    ingest.put_joint_state("left", joints(T0 + 10, (0.3, 0.0)))
    ingest.put_joint_state("left", joints(T0 + 5, (0.2, 0.0)))
    ingest.put_image("head", image(T0 + 7))
    assert ingest.assemble(now_ns=T0 + 10).state.positions[0] == 0.2
    assert texts(ingest) == []


def test_a_repeated_stamp_keeps_the_first_message() -> None:
    ingest = fed()
    ingest.put_joint_state("left", joints(T0, (0.9, 0.0)))
    assert ingest.assemble(now_ns=T0).state.positions[0] == 0.1


def test_a_clock_that_goes_back_starts_a_new_history_and_says_so() -> None:
    ingest = fed()
    earlier = T0 - RESET_TOLERANCE_NS - NS_PER_S
    ingest.put_image("head", image(earlier, colour=9))
    notices = ingest.take_notices()
    assert [notice.kind for notice in notices] == [NoticeKind.CLOCK_RESET]
    assert "camera 'head' (topic head/image_raw): its clock went back by 1.500 s" in notices[0].text
    with pytest.raises(StaleObservation, match=r"'left'.*the clocks differ"):
        ingest.assemble(now_ns=earlier)
    for name in ("left", "right"):
        ingest.put_joint_state(name, joints(earlier))
    observation = ingest.assemble(now_ns=earlier)
    assert observation.stamp_ns == earlier
    assert observation.frames["head"].rgb[0, 0, 0] == 9


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (joints(T0, (0.1, 0.2, 0.3), names=("joint1", "gripper", "joint1")), "repeats joint1"),
        (
            joints(T0, (0.1,)),
            "another number of positions than names: got '1 positions'; allowed: 2 positions",
        ),
        (joints(T0, velocity=(1.0, 2.0, 3.0)), "more velocities than names"),
        (joints(T0, (np.nan, 0.0)), "non-finite position for joint1: got nan"),
        (joints(T0, (0.0, np.inf)), "non-finite position for gripper: got inf"),
        (joints(T0, velocity=(np.inf,)), "infinite velocity for joint1"),
        (
            joints(T0, (30.0, 0.0)),
            "impossible position for joint1 (degrees are likely: the joint's entry in the robot file says so with "
            "conversion: {state: 0.017453}): got '30'; allowed: -2 .. 2 rad",
        ),
        (joints(T0, (0.0, 50.0)), "impossible position for gripper (millimetres are likely"),
        (joints(T0, (900.0, 0.0)), "impossible position for joint1 (another unit?)"),
    ],
)
def test_a_joint_state_that_does_not_fit_is_refused_by_name(message: SimpleNamespace, why: str) -> None:
    ingest = StreamIngest(ROBOT, cameras=())
    ingest.put_joint_state("left", message)
    ingest.put_joint_state("right", joints(T0))
    (notice,) = ingest.take_notices()
    assert notice.kind is NoticeKind.REFUSED
    assert isinstance(notice.error, JointError)
    assert why in notice.text
    assert (
        "joint group 'left'" in notice.text or "group 'left' (topic left/joint_states_single)" in notice.text
    )
    with pytest.raises(StaleObservation) as caught:
        ingest.assemble(now_ns=T0)
    assert why in str(caught.value)
    assert caught.value.__cause__ is notice.error


def test_a_joint_that_no_message_has_is_named_once_it_is_late() -> None:
    ingest = StreamIngest(ROBOT, cameras=())
    ingest.put_joint_state("right", joints(T0))
    ingest.put_joint_state("left", joints(T0, (0.1,), names=("joint1",)))
    with pytest.raises(StaleObservation, match="nothing has been reported yet of gripper, only of joint1"):
        ingest.assemble(now_ns=T0)
    assert texts(ingest) == []
    ingest.put_joint_state("left", joints(T0 + 51 * NS_PER_MS, (0.1,), names=("joint1",)))
    (notice,) = ingest.take_notices()
    assert "lacks gripper: got ['joint1']; allowed: all of ['joint1', 'gripper']" in notice.text


def test_joints_that_are_not_the_robots_are_ignored_whatever_they_hold() -> None:
    ingest = fed()
    ingest.put_joint_state("left", joints(T0 + 1, (np.nan, 0.3, 0.01), names=("wheel", "joint1", "gripper")))
    ingest.put_image("head", image(T0 + 1))
    np.testing.assert_array_equal(ingest.assemble(now_ns=T0 + 1).state.positions[:2], [0.3, 0.01])


def test_a_measured_position_a_little_outside_its_limits_is_kept() -> None:
    ingest = fed()
    ingest.put_joint_state("left", joints(T0 + 1, (1.02, -0.002)))
    assert texts(ingest) == []


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (image(T0, encoding="32FC1"), "got '32FC1'; allowed: rgb8"),
        (image(T0, height=HEIGHT + 1), "got '6x5 px'; allowed: 6x4 px"),
        (image(0), "header.stamp is not set"),
    ],
)
def test_an_image_that_does_not_fit_is_refused_by_name(message: SimpleNamespace, why: str) -> None:
    ingest = StreamIngest(ROBOT, cameras=("head",))
    ingest.put_image("head", message)
    (notice,) = ingest.take_notices()
    assert isinstance(notice.error, ImageError)
    assert why in notice.text
    assert "'head'" in notice.text


def test_a_lasting_fault_is_told_once_and_its_end_is_told() -> None:
    ingest = fed()
    for i in range(1, 20):
        ingest.put_image("head", image(T0 + i, encoding="16UC1"))
    assert len(texts(ingest)) == 1
    for i in range(20, 20 + RECOVERED_AFTER):
        ingest.put_image("head", image(T0 + i))
    (notice,) = ingest.take_notices()
    assert notice.recovered
    assert notice.text == "camera 'head' (topic head/image_raw): usable again after 19 refused messages"


def test_another_fault_of_the_same_stream_is_told_as_well() -> None:
    ingest = fed()
    ingest.put_image("head", image(T0 + 1, encoding="16UC1"))
    ingest.put_image("head", image(T0 + 2, height=HEIGHT + 1))
    assert ["encoding" in text or "size" in text for text in texts(ingest)] == [True, True]


def test_two_publishers_on_one_topic_do_not_fill_the_log() -> None:
    """A right and a wrong publisher alternate: without a waiting period every message would give a line."""
    ingest = fed()
    for i in range(1, 100):
        ingest.put_image("head", image(T0 + i, encoding="rgb8" if i % 2 else "16UC1"))
    assert len(texts(ingest)) == 1


def test_one_bad_message_between_good_ones_does_not_stop_the_stream() -> None:
    ingest = fed()
    ingest.put_joint_state("left", joints(T0 + 1, (np.nan, 0.0)))
    assert ingest.assemble(now_ns=T0 + 1).state.positions[0] == 0.1


def test_a_damaged_picture_is_replaced_by_the_one_before_it() -> None:
    ingest = fed(cameras=("wrist",))
    ingest.put_image("wrist", jpeg(T0 + 1, keep=0.9))
    assert ingest.assemble(now_ns=T0 + 1).stamp_ns == T0
    (notice,) = ingest.take_notices()
    assert isinstance(notice.error, ImageError)
    assert "is damaged" in notice.text


def test_pictures_that_are_all_damaged_are_told_once_and_end_as_stale() -> None:
    """Their headers are good, so counting good headers as recovery would tell the fault again and again."""
    ingest = fed(cameras=("wrist",))
    for i in range(1, 8):
        now_ns = T0 + i * 20 * NS_PER_MS
        for name in ("left", "right"):
            ingest.put_joint_state(name, joints(now_ns))
        ingest.put_image("wrist", jpeg(now_ns, keep=0.9))
        ingest.assemble(now_ns=now_ns)
    late_ns = T0 + 210 * NS_PER_MS
    for name in ("left", "right"):
        ingest.put_joint_state(name, joints(late_ns))
    with pytest.raises(StaleObservation, match="is damaged") as caught:
        ingest.assemble(now_ns=late_ns)
    assert isinstance(caught.value.__cause__, ImageError)
    assert len(texts(ingest)) == 1


def test_a_camera_recovers_from_damaged_pictures_when_pictures_can_be_decoded() -> None:
    ingest = fed(cameras=("wrist",))
    ingest.put_image("wrist", jpeg(T0 + 1, keep=0.9))
    ingest.assemble(now_ns=T0 + 1)
    for i in range(2, 2 + RECOVERED_AFTER):
        ingest.put_image("wrist", jpeg(T0 + i))
        ingest.assemble(now_ns=T0 + i)
    assert [notice.kind for notice in ingest.take_notices()] == [NoticeKind.REFUSED, NoticeKind.RECOVERED]


def test_counters_tell_what_arrived_and_how_late() -> None:
    ingest = fed()
    ingest.put_image("head", image(T0 + 10), receive_ns=T0 + 45)
    ingest.put_joint_state("left", joints(T0 + 1, (np.nan, 0.0)))
    head, left, _ = ingest.status()
    assert (head.stream, head.topic, head.received, head.refused) == ("head", "head/image_raw", 2, 0)
    assert (head.newest_ns, head.latency_ns, head.fault) == (T0 + 10, 35, "")
    assert (left.received, left.refused) == (1, 1)
    assert "non-finite" in left.fault


def test_cleared_streams_start_anew() -> None:
    ingest = fed()
    ingest.clear()
    with pytest.raises(StaleObservation, match="nothing has arrived yet"):
        ingest.assemble(now_ns=T0)


def test_messages_of_rosbags_give_the_same_observation_as_plain_ones() -> None:
    types = get_typestore(Stores.ROS2_KILTED).types
    time_type, header_type = types["builtin_interfaces/msg/Time"], types["std_msgs/msg/Header"]
    header = header_type(stamp=time_type(sec=T0 // NS_PER_S, nanosec=0), frame_id="optical")
    plain_image, plain_joints = image(T0, colour=33), joints(T0)
    bagged_image = types["sensor_msgs/msg/Image"](
        header=header,
        height=HEIGHT,
        width=WIDTH,
        encoding="rgb8",
        is_bigendian=0,
        step=WIDTH * 3,
        data=np.frombuffer(plain_image.data, np.uint8),
    )
    bagged_joints = types["sensor_msgs/msg/JointState"](
        header=header,
        name=list(NAMES),
        position=np.array(plain_joints.position),
        velocity=np.array(plain_joints.velocity),
        effort=np.zeros(0),
    )
    observations = []
    for picture, state in ((plain_image, plain_joints), (bagged_image, bagged_joints)):
        ingest = StreamIngest(ROBOT, cameras=("head",))
        ingest.put_image("head", picture)
        for name in ("left", "right"):
            ingest.put_joint_state(name, state)
        observations.append(ingest.assemble(now_ns=T0))
    plain, bagged = observations
    assert plain.stamp_ns == bagged.stamp_ns
    np.testing.assert_array_equal(plain.frames["head"].rgb, bagged.frames["head"].rgb)
    np.testing.assert_array_equal(plain.state.positions, bagged.state.positions)
    np.testing.assert_array_equal(plain.state.velocities, bagged.state.velocities)


def test_several_threads_may_put_and_assemble_at_once() -> None:
    ingest = fed(cameras=("head", "wrist"))
    failures: list[BaseException] = []

    def guarded(work: object) -> threading.Thread:
        def run() -> None:
            try:
                for i in range(200):
                    work(T0 + i)  # type: ignore[operator]
            except BaseException as error:  # collected for the main thread
                failures.append(error)

        return threading.Thread(target=run)

    threads = [
        guarded(lambda t: ingest.put_image("head", image(t))),
        guarded(lambda t: ingest.put_image("wrist", jpeg(t))),
        guarded(lambda t: ingest.put_joint_state("left", joints(t))),
        guarded(lambda t: ingest.assemble(now_ns=T0)),
        guarded(lambda t: ingest.assemble(now_ns=T0)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_the_ingest_needs_neither_rclpy_nor_torch_nor_opencv() -> None:
    """The command stream's process imports it, and OpenCV is only for compressed pictures."""
    code = (
        "import sys, wam.runtime.ingest.ingest\n"
        "print(sorted(m for m in ('rclpy', 'torch', 'cv2', 'mujoco') if m in sys.modules))"
    )
    root = Path(__file__).resolve().parents[3]
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert result.stdout.strip() == "[]"
