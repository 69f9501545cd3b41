# SPDX-License-Identifier: Apache-2.0
"""The simulated robot over real DDS: the topics, names, units and pictures of the drivers it stands for."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels (make setup)")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Bool

from wam.core.errors import ConfigError, MissingDependency, StaleObservation
from wam.core.observation import Observation
from wam.devices.loader import load_robot
from wam.robots.images import decode_image
from wam.ros.qos import COMMAND, EVENT, IMAGE, JOINT_STATE
from wam.runtime.ingest.ingest import StreamIngest
from wam.sim import rendering

pytestmark = [pytest.mark.ros, pytest.mark.sim]


PIPER = load_robot("piper")
LEFT, CAMERA = PIPER.group("left"), PIPER.camera("head")
HOME = [joint.home for joint in LEFT.joints]
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@pytest.mark.parametrize("side", ["left", "right"])
def test_each_arm_publishes_what_piper_ros_publishes(stage: Any, side: str) -> None:
    states = stage.listen(JointState, f"{side}/joint_states_single", JOINT_STATE)
    feedback = stage.listen(JointState, f"{side}/joint_states_feedback", JOINT_STATE)
    echo = stage.listen(JointState, f"{side}/joint_ctrl", JOINT_STATE)
    stage.run(cameras=False)
    stage.until(lambda: min(len(states), len(feedback), len(echo)) >= 3, "three messages on each topic")
    for message in (states[-1], feedback[-1], echo[-1]):
        assert message.name == ["joint1", "joint2", "joint3", "joint4", "joint5", "joint6", "gripper"]
        assert list(message.position) == pytest.approx(HOME, abs=2e-3)
    assert len(states[-1].velocity) == 6
    stamps = [message.header.stamp.sec * 10**9 + message.header.stamp.nanosec for message in states]
    assert stamps == sorted(set(stamps))
    assert abs(stamps[-1] - time.time_ns()) < 5 * 10**9


def test_a_command_moves_the_arm_that_it_names(stage: Any) -> None:
    states = stage.listen(JointState, LEFT.state_topic, JOINT_STATE)
    others = stage.listen(JointState, PIPER.group("right").state_topic, JOINT_STATE)
    commands = stage.node.create_publisher(JointState, LEFT.command_topic, COMMAND)
    stage.run(cameras=False)
    stage.until(lambda: commands.get_subscription_count() > 0, "the driver's subscription")
    target = [0.4, *HOME[1:6], 0.02]
    commands.publish(JointState(name=list(LEFT.driver_names), position=target))
    stage.until(
        lambda: bool(states) and np.allclose(states[-1].position, target, atol=5e-3), "the arm at its target"
    )
    stage.until(lambda: bool(others), "the other arm's state")
    assert list(others[-1].position) == pytest.approx(HOME, abs=5e-3)


def test_the_enable_flag_switches_the_drives(stage: Any) -> None:
    states = stage.listen(JointState, LEFT.state_topic, JOINT_STATE)
    flag = stage.node.create_publisher(Bool, "left/enable_flag", EVENT)
    stage.run(cameras=False)
    stage.until(lambda: flag.get_subscription_count() > 0, "the driver's subscription")
    flag.publish(Bool(data=False))
    stage.until(lambda: bool(states) and abs(states[-1].position[2] - HOME[2]) > 0.2, "the arm falling")


@pytest.mark.camera
def test_the_camera_publishes_raw_and_compressed_pictures_with_calibration(stage: Any) -> None:
    raw = stage.listen(Image, CAMERA.topic, IMAGE)
    jpeg = stage.listen(CompressedImage, CAMERA.compressed_topic, IMAGE)
    infos = stage.listen(CameraInfo, "head/color/camera_info", IMAGE)
    stage.run()
    stage.until(lambda: bool(raw and jpeg and infos), "a picture, its compressed form and its calibration")
    image, info = raw[-1], infos[-1]
    assert (image.height, image.width, image.encoding, image.step) == (240, 320, "rgb8", 960)
    assert (
        image.header.frame_id
        == info.header.frame_id
        == jpeg[-1].header.frame_id
        == "head_camera_optical_frame"
    )
    size = (CAMERA.height, CAMERA.width)
    plain, coded = (decode_image(message, camera="head", size=size) for message in (image, jpeg[-1]))
    assert np.abs(plain.astype(int) - coded.astype(int)).mean() < 3
    assert plain.std() > 20, "a picture with something in it"
    assert info.k[0] == pytest.approx(120 / np.tan(np.radians(30)))
    assert (info.k[2], info.k[5]) == (159.5, 119.5)


@pytest.mark.camera
def test_its_streams_make_observations_by_the_ingest_of_the_nodes(stage: Any) -> None:
    stage.run()
    ingest = StreamIngest(PIPER, cameras=("head",))
    stage.node.create_subscription(Image, CAMERA.topic, lambda m: ingest.put_image("head", m), IMAGE)
    for group in PIPER.groups:
        stage.node.create_subscription(
            JointState,
            group.state_topic,
            lambda m, name=group.name: ingest.put_joint_state(name, m),
            JOINT_STATE,
        )
    seen: list[Observation] = []

    def observed() -> bool:
        # Acquisition stamps decide: a busy machine makes pictures old, which is not what is tested here.
        newest = [status.newest_ns for status in ingest.status() if status.newest_ns is not None]
        try:
            seen.append(ingest.assemble(now_ns=max(newest, default=0)))
        except StaleObservation:
            return False
        return True

    stage.until(observed, "an observation")
    assert seen[0].state.joint_names == PIPER.joint_names
    assert seen[0].frames["head"].rgb.shape == (240, 320, 3)
    assert [notice.text for notice in ingest.take_notices()] == []


@pytest.mark.camera
def test_it_can_be_stopped_and_started_again(stage: Any) -> None:
    raw = stage.listen(Image, CAMERA.topic, IMAGE)
    sim = stage.run()
    stage.until(lambda: bool(raw), "a picture")
    assert sim.trigger_deactivate() == SUCCESS
    assert sim.trigger_cleanup() == SUCCESS
    raw.clear()
    assert sim.trigger_configure() == SUCCESS
    assert sim.trigger_activate() == SUCCESS
    stage.until(lambda: bool(raw), "a picture after the second start")


def test_diagnostics_tell_the_real_time_factor(stage: Any) -> None:
    heard = stage.listen(DiagnosticArray, "/diagnostics", EVENT)
    stage.run(cameras=False)

    def told() -> bool:
        values = {v.key: v.value for array in heard for status in array.status for v in status.values}
        return 0.0 < float(values.get("realtime_factor", "nan")) < 1.5

    stage.until(told, "a real-time factor")


def test_without_egl_it_refuses_with_the_packages_and_runs_without_cameras(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_egl(width: int, height: int) -> None:
        raise MissingDependency("simulated cameras need EGL", where="the machine: apt install libegl1")

    monkeypatch.setattr(rendering, "_open_egl", no_egl)
    sim = stage.sim()
    assert sim.trigger_configure() == FAILURE
    assert isinstance(sim.last_error, MissingDependency)
    assert stage.node.count_publishers("left/joint_states_single") == 0
    stage.run(cameras=False)


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"robot": "g1_inspire"}, "has no model"),
        ({"robot": "nobody"}, "there is no such robot"),
        ({"camera_rate": 500.0}, "camera_rate is out of range"),
        ({"speed": 2.0}, "speed of a simulation on the wall clock"),
        ({"clock": "publish", "use_sim_time": True}, "publishes /clock and follows it"),
        ({"distribution": "foxy"}, "distribution"),
    ],
)
def test_a_wrong_parameter_is_refused_at_configure(stage: Any, parameters: dict[str, Any], why: str) -> None:
    sim = stage.sim(**{"cameras": False, **parameters})
    assert sim.trigger_configure() == FAILURE
    assert isinstance(sim.last_error, ConfigError)
    assert why in str(sim.last_error)
