# SPDX-License-Identifier: Apache-2.0
"""The Piper's edge against a model of its driver and of its bus."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.core.errors import JointError
from wam.devices.loader import load_robot
from wam.devices.piper import arm as piper
from wam.devices.piper.arm import ArmStatus, PiperArm, PiperStatus, Request
from wam.devices.piper.generations import AGX_ARM_ROS, ARM_JOINTS, JOINTS
from wam.devices.registry import kind_of, make_watch
from wam.devices.state import Readiness
from wam.devices.watch import Seen
from wam.robots.description import JointGroup
from wam.robots.joint_mapping import Conversion
from wam.robots.joint_reader import JointReader

SEVEN = {
    "joint1": 2.0,
    "joint2": 1.0,
    "joint3": -1.0,
    "joint4": 0.5,
    "joint5": -0.5,
    "joint6": 1.5,
    "gripper": 0.05,
}


class Arm:
    """An arm behind piper_ros: exact inside, with the driver's conversion errors and rule for what is missing."""

    def __init__(self) -> None:
        self.radians = dict.fromkeys(JOINTS, 0.0)

    def take(self, group: JointGroup, wanted: Any) -> None:
        given = dict(zip(group.driver_names, wanted * group.command_factors, strict=True))
        for name in ARM_JOINTS:
            self.radians[name] = math.radians(int(given.get(name, 0.0) * 57324.84) / 1000.0)
        self.radians["gripper"] = int(given.get("gripper", 0.0) * 1e6) / 1e6

    def report(self) -> Any:
        positions = [math.degrees(self.radians[name]) * 0.017444 for name in ARM_JOINTS]
        return SimpleNamespace(name=JOINTS, position=[*positions, self.radians["gripper"]], velocity=())


def test_the_arm_goes_where_it_was_told_and_reports_where_it_is() -> None:
    """Both conversions of the driver are off by a twentieth of a percent: 1 mrad each way at 2 rad."""
    group, arm = load_robot("piper").group("left"), Arm()
    wanted = np.array(list(SEVEN.values()))
    arm.take(group, wanted)
    thousandth_of_a_degree = 2e-5
    assert list(arm.radians.values()) == pytest.approx(wanted, abs=thousandth_of_a_degree)
    measured, _ = JointReader(group).read(arm.report())
    np.testing.assert_allclose(measured, wanted, atol=thousandth_of_a_degree)
    assert abs(arm.report().position[0] - 2.0) > 9e-4, "what the driver reports is off"


def test_feeding_measured_values_back_does_not_drift() -> None:
    group, arm = load_robot("piper").group("left"), Arm()
    targets = np.array(list(SEVEN.values()))
    for _ in range(50):
        arm.take(group, targets)
        targets, _ = JointReader(group).read(arm.report())
    assert arm.radians["joint1"] == pytest.approx(2.0, abs=2e-3)


def test_the_robot_file_has_the_conversions_of_the_driver_for_the_arm_and_none_for_the_gripper() -> None:
    for group in load_robot("piper").groups:
        *arm, gripper = group.joints
        for joint in arm:
            assert joint.conversion.state == pytest.approx(piper.FEEDBACK_FACTOR, rel=1e-9)
            assert joint.conversion.command == pytest.approx(piper.COMMAND_FACTOR, rel=1e-9)
        assert gripper.conversion == Conversion(), "metres go both ways as they are"


class Watched:
    """An arm whose driver publishes every 5 ms."""

    def __init__(self, **options: Any) -> None:
        self.arm = PiperArm("left arm", **options)
        self.now = 10 * NS_PER_S
        self.can = True
        self._stamp = self.now

    def run(self, ms: int) -> list[Request]:
        requests = []
        for _ in range(ms // 5):
            self.now += 5 * NS_PER_MS
            if self.can:
                self._stamp = self.now
            self.arm.on_joint_state(self._stamp, self.now)
            if (request := self.arm.step(self.now)) is not None:
                requests.append(request)
        return requests

    def code(self) -> str:
        return self.arm.state(self.now).code

    def ready(self) -> None:
        self.run(20)
        self.arm.enable(self.now)
        for _ in self.arm.calls:
            self.run(10)
            self.arm.on_enabled(True)
        self.arm.on_status(PiperStatus(0, 1))
        assert self.code() == "ready"


def test_an_arm_is_enabled_by_asking_until_it_is() -> None:
    watched = Watched()
    assert watched.code() == "driver_silent"
    watched.run(20)
    assert watched.code() == "not_enabled"
    watched.arm.enable(watched.now)
    assert watched.run(1600) == [Request.ENABLE] * 4
    watched.arm.on_enabled(False)
    assert watched.code() == "enabling"
    watched.arm.on_enabled(True)
    watched.arm.on_status(PiperStatus(0, 0))
    assert watched.code() == "standby"
    assert watched.arm.state(watched.now).commandable
    assert watched.run(1000) == []


def test_enabling_gives_up_after_five_seconds() -> None:
    watched = Watched()
    watched.run(20)
    watched.arm.enable(watched.now)
    assert watched.run(6000) == [Request.ENABLE] * 10
    state = watched.arm.state(watched.now)
    assert state.code == "not_enabled"
    assert "not enabled within 5 s" in state.text
    watched.arm.on_enabled(True)
    assert watched.code() == "not_enabled", "an answer that nobody asked for"


def test_a_lost_bus_is_seen_although_the_driver_goes_on_publishing() -> None:
    """The driver's thread publishes at 200 Hz with or without CAN frames; only its stamps stand still."""
    watched = Watched()
    watched.ready()
    watched.can = False
    watched.run(90)
    assert watched.code() == "ready"
    watched.run(20)
    state = watched.arm.state(watched.now)
    assert (state.readiness, state.code) == (Readiness.ABSENT, "can_lost")
    assert "stood still for 1" in state.text
    assert state.steps[0].moves, "the arm has no brakes: supporting it comes first"


def test_after_a_lost_bus_the_arm_must_be_enabled_again() -> None:
    """Its drives may have been off meanwhile; a stream that goes on makes the arm jump when they come back."""
    watched = Watched()
    watched.ready()
    watched.can = False
    watched.run(200)
    watched.can = True
    watched.run(20)
    assert watched.code() == "not_enabled"


def test_a_bus_that_was_lost_between_two_looks_is_noticed_all_the_same() -> None:
    """A loss that began and ended between two steps left the arm "ready" with drives that might have been off."""
    watched = Watched()
    watched.ready()
    watched.now += 150 * NS_PER_MS
    watched.arm.on_joint_state(watched.now, watched.now)
    assert watched.code() == "not_enabled"


def test_a_dead_driver_is_not_a_lost_bus() -> None:
    """Joint states that were a little late were said not to arrive at all."""
    watched = Watched()
    assert watched.arm.state(watched.now).text == "nothing has arrived on joint_states_single of the left arm"
    watched.ready()
    watched.now += NS_PER_S
    assert watched.code() == "driver_silent"
    assert (
        watched.arm.state(watched.now).text
        == "nothing has arrived on joint_states_single of the left arm for 0.5 s"
    )


@pytest.mark.parametrize("fault", [status for status in ArmStatus if status])
def test_every_fault_blocks_and_says_what_to_do(fault: ArmStatus) -> None:
    watched = Watched()
    watched.ready()
    watched.arm.on_status(PiperStatus(int(fault), 1))
    state = watched.arm.state(watched.now)
    assert state.readiness is Readiness.BLOCKED
    assert state.code == fault.name.lower()
    assert len(state.steps) >= 2
    assert state.steps[-1].name == "enable_srv"


def test_an_unknown_fault_blocks_too() -> None:
    watched = Watched()
    watched.ready()
    watched.arm.on_status(PiperStatus(0x63, 1))
    state = watched.arm.state(watched.now)
    assert (state.readiness, state.code) == (Readiness.BLOCKED, "other")
    assert "0x63" in state.text


def test_teaching_and_silent_joints_block() -> None:
    watched = Watched(topics=AGX_ARM_ROS)
    watched.ready()
    watched.arm.on_status(PiperStatus(0, 2))
    assert watched.code() == "teaching"
    watched.arm.on_status(PiperStatus(0, 7))
    assert watched.code() == "offline_mode"
    message = SimpleNamespace(
        arm_status=0, ctrl_mode=1, communication_status_joint_3=True, joint_2_angle_limit=True
    )
    status = piper.read_status(message)
    assert status == PiperStatus(0, 1, ("joint2",), ("joint3",))
    watched.arm.on_status(status)
    state = watched.arm.state(watched.now)
    assert state.code == "joint_communication"
    assert "no answer from joint3" in state.text
    assert [step.name for step in state.steps[-2:]] == ["enable_agx_arm", "control_enable"]
    watched.arm.on_status(PiperStatus(0, 1, limited_joints=("joint2",)))
    assert watched.arm.state(watched.now).commandable
    watched.arm.on_disabled()
    assert watched.code() == "not_enabled"


@pytest.mark.parametrize(
    ("changes", "follows"),
    [
        ({}, True),
        ({"ctrl_mode": 0}, True),
        ({"ctrl_mode": 2}, False),
        ({"silent_joints": ("joint3",)}, False),
        ({"arm_status": 1}, False),
        ({"limited_joints": ("joint2",)}, True),
    ],
)
def test_an_arm_that_is_taught_or_whose_joints_are_silent_does_not_follow(
    changes: dict[str, Any], follows: bool
) -> None:
    watch = make_watch(load_robot("piper").group("left"))
    values = {"arm_status": 0, "ctrl_mode": 1, "limited_joints": (), "silent_joints": (), **changes}
    assert (watch.deaf(Seen(0, values)) == "") == follows
    assert watch.deaf(Seen(0)) == ""


def test_enabling_says_before_that_it_closes_the_gripper() -> None:
    """enable_srv of piper_ros commands the gripper to 0 m with 1 N m, whatever it holds: nothing said so."""
    watched = Watched()
    watched.run(20)
    *_, told, call = watched.arm.state(watched.now).steps
    assert call.name == "enable_srv"
    assert "CLOSES ITS GRIPPER" in told.text
    assert told.text == watched.arm.warning
    assert Watched(topics=AGX_ARM_ROS).arm.warning == ""


def test_a_robot_file_forbids_enabling_where_that_closes_the_gripper() -> None:
    watched = Watched(may_close=False)
    watched.run(20)
    watched.arm.enable(watched.now)
    assert watched.run(6000) == []
    state = watched.arm.state(watched.now)
    assert state.code == "not_enabled"
    assert "`gripper_on_enable: keep`" in state.text
    assert "`gripper_on_enable: may_close`" in state.text
    assert not [step for step in state.steps if step.name], "a recovery must not call it either"
    successor = Watched(topics=AGX_ARM_ROS, may_close=False)
    successor.ready()


def test_the_gate_of_the_successor_is_opened_after_its_drives_are_on() -> None:
    watched = Watched(topics=AGX_ARM_ROS)
    watched.run(20)
    watched.arm.enable(watched.now)
    watched.run(20)
    assert watched.arm.call.name == "enable_agx_arm"
    watched.arm.on_enabled(True)
    assert watched.arm.enabling
    assert watched.run(20) == [Request.ENABLE]
    assert watched.arm.call.name == "control_enable"
    watched.arm.on_enabled(True)
    assert not watched.arm.enabling


def test_the_status_of_the_successor_lists_its_joints() -> None:
    flags = [False, False, True, False, False, False]
    listed = SimpleNamespace(
        arm_status=0, ctrl_mode=1, communication_status_joint=flags, joint_angle_limit=flags[::-1]
    )
    assert piper.read_status(listed) == PiperStatus(0, 1, ("joint4",), ("joint3",))


def test_a_node_that_has_ended_and_is_started_again_counts_as_disabled() -> None:
    watched = Watched()
    watched.ready()
    watched.now += NS_PER_S
    state = watched.arm.state(watched.now)
    assert state.code == "driver_silent"
    assert state.steps[0].moves, "the arm has no brakes: supporting it comes first"
    watched.run(20)
    assert watched.code() == "not_enabled"


AGX = {"state_topic": "left/feedback/joint_states", "command_topic": "left/control/joint_states"}


def test_only_piper_ros_is_told_its_speed() -> None:
    """Older releases move at 30 % where nothing is said: at 0.9 of 1.5 rad/s the arm fell behind into a STOP."""
    group = load_robot("piper").group("left")
    field = kind_of(group).velocity_field
    assert field is not None
    assert field(group) == (0, 0, 0, 0, 0, 0, 100)
    assert field(replace(group, **AGX)) == (), "velocities choose its control mode"


@pytest.mark.parametrize(
    "names", [tuple(f"joint{i}" for i in range(7)), tuple(f"joint{i}" for i in range(1, 8))]
)
def test_the_names_of_other_releases_are_those_of_the_same_joints(names: tuple[str, ...]) -> None:
    """joint1 of the first releases is the second joint: a reader by name alone takes each joint for its neighbour."""
    reader = JointReader(load_robot("piper").group("left"))
    message = SimpleNamespace(name=list(names), position=[0.1, 1.2, -1.3, 0.4, 0.5, 0.6, 0.02], velocity=())
    measured, _ = reader.read(message)
    np.testing.assert_allclose(measured, message.position, rtol=1e-3)
    with pytest.raises(JointError, match="lacks gripper"):
        reader.read(SimpleNamespace(name=list(names[::-1]), position=message.position, velocity=()))
