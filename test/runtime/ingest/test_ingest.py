# SPDX-License-Identifier: Apache-2.0
"""The one path from messages to observations: stamps decide, faults are named once, nothing stale gets through."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from ingest_streams import HEIGHT, NAMES, ROBOT, T0, WIDTH, fed, image, joints, jpeg, texts
from rosbags.typesys import Stores, get_typestore

from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.core.errors import StaleObservation
from wam.runtime.ingest.ingest import FUTURE_TOLERANCE_NS, NoticeKind, StreamIngest
from wam.runtime.ingest.stream_buffer import RESET_TOLERANCE_NS


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
