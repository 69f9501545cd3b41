# SPDX-License-Identifier: Apache-2.0
"""A move_group that runs already, asked through its service, and the joints of its model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import Future
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from wam.core.safety.collision import CheckerSilent
from wam.devices.loader import load_robot
from wam.robots.collision import model_joints
from wam.robots.description import RobotDescription
from wam.ros.moveit.joints import MoveItJoint, known_joints, moveit_joints
from wam.ros.moveit.service import MoveGroup, ServiceChecker, make_service_checker

ROBOT = load_robot("piper")
HOME = np.array([joint.home for joint in ROBOT.joints])
ARM = np.array([0.0 if joint.name.endswith("gripper") else 1.0 for joint in ROBOT.joints])
TICK = 10_000_000


class FakeClient:
    """A client whose calls are answered by the test."""

    def __init__(self) -> None:
        self.ready = True
        self.calls: list[tuple[Any, Future[Any]]] = []

    def service_is_ready(self) -> bool:
        return self.ready

    def call_async(self, request: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.calls.append((request, future))
        return future


class FakeMoveGroup:
    """A move_group of some joints: it tells them, and ends at the first name that it does not know."""

    def __init__(self, *joints: str, robot: RobotDescription = ROBOT, **options: Any) -> None:
        self.joints = joints or model_joints(robot).names
        self.validity, self.scene = FakeClient(), FakeClient()
        self.asked: list[dict[str, float]] = []
        self.warnings: list[str] = []
        self.seconds = 0.0
        self.checker = ServiceChecker(
            MoveGroup(self.validity, self.scene, self.note, lambda: None),
            robot,
            warn=self.warnings.append,
            now=lambda: self.seconds,
            **options,
        )

    def note(self, names: Sequence[str], positions: Any) -> dict[str, float]:
        asked = dict(zip(names, positions.tolist(), strict=True))
        assert set(asked) <= set(self.joints), (
            "terminate called after throwing an instance of moveit::Exception"
        )
        self.asked.append(asked)
        return asked

    def tell_joints(self, question: int = -1) -> None:
        """Answer a question about the model; without a number the newest."""
        joint_state = SimpleNamespace(name=list(self.joints))
        scene = SimpleNamespace(robot_state=SimpleNamespace(joint_state=joint_state))
        self.scene.calls[question][1].set_result(SimpleNamespace(scene=scene))

    def submit(self, count: int = 1, *, home: Any = HOME) -> list[tuple[Any, Future[Any]]]:
        """Submit states and answer the question about the model, if there is one; return the calls."""
        questions, before = len(self.scene.calls), len(self.validity.calls)
        self.checker.submit(np.tile(home, (count, 1)))
        if len(self.scene.calls) > questions:
            self.tell_joints()
        if len(self.validity.calls) == before:
            assert self.checker.poll() is None
        return self.validity.calls[before:]


def response(valid: bool, *bodies: str) -> Any:
    contacts = [SimpleNamespace(contact_body_1=bodies[0], contact_body_2=bodies[1])] if bodies else []
    return SimpleNamespace(valid=valid, contacts=contacts)


def test_move_group_is_asked_about_states_along_the_chunk_and_the_first_contact_counts() -> None:
    group = FakeMoveGroup(max_states=4)
    calls = group.submit(10)
    assert len(calls) == 4, "every third, the last among them"
    for number, (_, future) in enumerate(reversed(calls)):
        assert group.checker.poll() is None
        future.set_result(response(number not in (1, 2), "left_link5", f"object{number}"))
    answer = group.checker.poll()
    assert answer is not None
    assert answer.contact is not None
    assert (answer.contact.index, answer.contact.second) == (3, "object2")


@pytest.mark.parametrize("service", ["validity", "scene"])
def test_a_move_group_that_is_not_there_or_fails_is_no_answer(service: str) -> None:
    group = FakeMoveGroup()
    client = getattr(group, service)
    client.ready = False
    with pytest.raises(CheckerSilent, match="no server of"):
        group.checker.submit(HOME[None])
    client.ready = True
    if service == "validity":
        group.submit()
    else:
        group.checker.submit(HOME[None])
    client.calls[-1][1].set_exception(RuntimeError("unknown group"))
    with pytest.raises(CheckerSilent, match="unknown group"):
        group.checker.poll()


def test_late_responses_to_an_earlier_chunk_are_not_counted() -> None:
    group = FakeMoveGroup()
    ((_, late),) = group.submit()
    ((_, asked),) = group.submit()
    late.set_result(response(False, "a", "b"))
    assert group.checker.poll() is None
    asked.set_result(response(True))
    answer = group.checker.poll()
    assert answer is not None
    assert answer.contact is None


UR = load_robot("ur5e_inspire")
UR_HOME = np.array([joint.home for joint in UR.joints])
UR_ARM = ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
UR_JOINTS = tuple(f"{name}_joint" for name in UR_ARM)


def test_move_group_is_asked_only_about_joints_of_its_model() -> None:
    """The vendor's model of a UR has no hand: the first hand joint that was sent ended the process of move_group."""
    group = FakeMoveGroup(*UR_JOINTS, robot=UR)
    group.submit(home=UR_HOME)
    assert set(group.asked[0]) == set(UR_JOINTS)
    assert group.asked[0]["elbow_joint"] == pytest.approx(UR_HOME[2])
    (warning,) = group.warnings
    assert "thumb_distal_joint" in warning
    group.submit(home=UR_HOME)
    assert len(group.scene.calls) == len(group.warnings) == 1, "asked once"


def test_nothing_is_sent_before_the_joints_of_the_model_are_known() -> None:
    group = FakeMoveGroup()
    group.checker.submit(HOME[None])
    for _ in range(3):
        assert group.checker.poll() is None
    assert not group.validity.calls
    group.tell_joints()
    assert group.checker.poll() is None
    assert len(group.validity.calls) == 1


def test_joints_that_are_told_too_late_for_a_chunk_serve_the_next() -> None:
    """A move_group that needs longer than the budget to tell them would otherwise never be asked."""
    group = FakeMoveGroup()
    group.checker.submit(HOME[None])
    group.checker.submit(HOME[None])
    group.tell_joints(0)
    assert group.checker.poll() is None
    assert len(group.validity.calls) == 1


@pytest.mark.parametrize("away", ["seen", "between two chunks"])
def test_another_move_group_is_asked_for_its_joints_again(away: str) -> None:
    group = FakeMoveGroup(*UR_JOINTS, "finger_joint", robot=UR)
    group.submit(home=UR_HOME)
    if away == "seen":
        group.validity.ready = False
        with pytest.raises(CheckerSilent):
            group.checker.submit(UR_HOME[None])
        group.validity.ready = True
    else:
        group.seconds += 2.0
    group.joints = UR_JOINTS
    group.submit(home=UR_HOME)
    assert len(group.scene.calls) == 2
    assert set(group.asked[-1]) == set(UR_JOINTS)


def test_a_move_group_of_another_robot_is_never_asked_about_a_state() -> None:
    """The vendor's model of a Piper is of one arm: neither of two is its `joint1`."""
    group = FakeMoveGroup(*(f"joint{number}" for number in range(1, 9)))
    group.checker.submit(HOME[None])
    group.tell_joints()
    with pytest.raises(CheckerSilent, match=r"does not have the joints left_joint1.*right_joint6"):
        group.checker.poll()
    assert not group.validity.calls


def test_requests_have_the_fields_of_moveit_msgs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in of moveit_msgs: srv/GetStateValidity, srv/GetPlanningScene, msg/PlanningSceneComponents."""

    class Validity:
        def __init__(self) -> None:
            joint_state = SimpleNamespace(name=[], position=[])
            self.robot_state = SimpleNamespace(joint_state=joint_state, is_diff=False)
            self.group_name = ""

    class Components:
        ROBOT_STATE = 2

        def __init__(self, *, components: int) -> None:
            self.components = components

    class Scene:
        def __init__(self, *, components: Components) -> None:
            self.components = components

    services = SimpleNamespace(
        GetStateValidity=SimpleNamespace(Request=Validity), GetPlanningScene=SimpleNamespace(Request=Scene)
    )
    monkeypatch.setitem(sys.modules, "moveit_msgs", ModuleType("moveit_msgs"))
    monkeypatch.setitem(
        sys.modules, "moveit_msgs.msg", cast(Any, SimpleNamespace(PlanningSceneComponents=Components))
    )
    monkeypatch.setitem(sys.modules, "moveit_msgs.srv", cast(Any, services))
    clients: dict[str, FakeClient] = {}

    def create_client(_kind: Any, name: str) -> FakeClient:
        return clients.setdefault(name, FakeClient())

    node = SimpleNamespace(create_client=create_client, get_logger=lambda: SimpleNamespace(warning=print))
    checker = make_service_checker(node, UR, group="ur_manipulator")
    checker.submit(UR_HOME[None])
    ((question, told),) = clients["get_planning_scene"].calls
    assert question.components.components == Components.ROBOT_STATE
    joint_state = SimpleNamespace(name=[*UR_JOINTS, "conveyor"])
    told.set_result(
        SimpleNamespace(scene=SimpleNamespace(robot_state=SimpleNamespace(joint_state=joint_state)))
    )
    assert checker.poll() is None
    ((request, _),) = clients["check_state_validity"].calls
    assert request.group_name == "ur_manipulator"
    assert request.robot_state.is_diff, "attached objects and other joints stay"
    assert request.robot_state.joint_state.name == list(UR_JOINTS)
    assert request.robot_state.joint_state.position == pytest.approx(UR_HOME[:6])


def test_one_arm_is_found_by_the_names_of_its_driver() -> None:
    joints = moveit_joints(ROBOT)
    left = [joint for joint in joints if joint.name.startswith("left")]
    known = known_joints(left, [f"joint{number}" for number in range(1, 9)])
    assert known.names == tuple(f"joint{number}" for number in range(1, 7))
    assert known.columns == (0, 1, 2, 3, 4, 5)
    assert known.left_out == ("left_gripper_joint1", "left_gripper_joint2")


def test_names_of_the_robot_file_come_before_those_of_the_driver() -> None:
    joints = [MoveItJoint("joint1", "joint1", True), MoveItJoint("left_joint1", "joint1", True)]
    with pytest.raises(CheckerSilent, match="left_joint1"):
        known_joints(joints, ["joint1"])
    assert known_joints(joints, ["joint1", "left_joint1"]).names == ("joint1", "left_joint1")
