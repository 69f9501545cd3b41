# SPDX-License-Identifier: Apache-2.0
"""What RViz is shown: the drivers' joint states in the names and units of the model."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels (make setup)")

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from waiting import wait_until

from wam.core.errors import ConfigError, InputError
from wam.devices.loader import load_robot
from wam.robots.model_state import ModelState
from wam.robots.urdf import robot_urdf, urdf_joints
from wam.ros.qos import JOINT_STATE, JOINT_STATE_PUBLISHER
from wam_bringup.view import ViewNode

pytestmark = pytest.mark.ros

os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 101 + 1))


@pytest.mark.parametrize("name", ["piper", "franka", "ur5e_inspire"])
def test_every_joint_of_the_model_is_shown_once_all_drivers_have_reported(name: str) -> None:
    robot = load_robot(name)
    state = ModelState(robot)
    for group in robot.groups:
        home = [joint.home for joint in group.joints]
        state.offer(group.name, SimpleNamespace(name=group.driver_names, position=home, velocity=[]))
    shown = state.read()
    assert set(shown) == {joint.name for joint in urdf_joints(robot_urdf(robot)).values() if joint.moves}
    if name == "ur5e_inspire":
        assert shown["index_proximal_joint"] == pytest.approx(1.7 * (1 - 0.9))
        assert shown["shoulder_lift_joint"] == pytest.approx(-1.5707963)


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    state = ModelState(load_robot("franka"))
    with pytest.raises(InputError, match="another number of positions than names"):
        state.offer("arm", SimpleNamespace(name=["fr3_joint1"], position=[], velocity=[]))
    assert state.read() == {}


def test_the_joints_that_a_message_has_are_shown() -> None:
    state = ModelState(load_robot("franka"))
    state.offer("arm", SimpleNamespace(name=["fr3_joint2", "wheel"], position=[0.25, 9.0], velocity=[]))
    assert state.read() == {"fr3_joint2": 0.25}


def test_a_robot_without_a_model_cannot_be_shown() -> None:
    with pytest.raises(ConfigError, match="robot g1_inspire has no model to show"):
        ModelState(load_robot("g1_inspire"))


def test_the_node_publishes_model_joints_for_a_drivers_message() -> None:
    group = load_robot("franka").group("gripper")
    own = not rclpy.ok()
    if own:
        rclpy.init()
    executor, other = SingleThreadedExecutor(), Node("view_listener")
    view = ViewNode(parameter_overrides=[Parameter("robot", value="franka")])
    try:
        for node in (view, other):
            executor.add_node(node)
        assert view.trigger_configure() == TransitionCallbackReturn.SUCCESS, view.last_error
        assert view.trigger_activate() == TransitionCallbackReturn.SUCCESS, view.last_error
        heard: list[JointState] = []
        other.create_subscription(JointState, "wam_view/joint_states", heard.append, JOINT_STATE)
        driver = other.create_publisher(JointState, group.state_topic, JOINT_STATE_PUBLISHER)

        def turn() -> None:
            driver.publish(JointState(name=["fr3_finger_joint1", "fr3_finger_joint2"], position=[0.02, 0.02]))
            executor.spin_once(timeout_sec=0.1)

        wait_until(lambda: heard, "a joint state of the model", turn=turn)
        assert dict(zip(heard[0].name, heard[0].position, strict=True)) == {
            "fr3_finger_joint1": 0.02,
            "fr3_finger_joint2": 0.02,
        }
        assert view.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
        assert view.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    finally:
        executor.shutdown()
        view.destroy_node()
        other.destroy_node()
        if own:
            rclpy.shutdown()
