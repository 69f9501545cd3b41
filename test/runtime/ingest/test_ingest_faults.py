# SPDX-License-Identifier: Apache-2.0
"""What the ingest does with messages that do not fit, and how it tells of them: once, by name, and when it ends."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from ingest_streams import HEIGHT, ROBOT, T0, fed, image, joints, jpeg, texts

from wam.core.clock import NS_PER_MS
from wam.core.errors import ImageError, JointError, StaleObservation
from wam.runtime.ingest.ingest import RECOVERED_AFTER, NoticeKind, StreamIngest


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
