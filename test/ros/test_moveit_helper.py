# SPDX-License-Identifier: Apache-2.0
"""The helper process that asks MoveIt: its answers, its death and its silence."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from moveit_stand_in import make_moveit
from waiting import wait_until

from wam.core.errors import InputError
from wam.core.safety.collision import CheckerAnswer, CheckerSilent
from wam.devices.loader import load_robot
from wam.robots.collision import model_joints
from wam.robots.description import RobotDescription
from wam.ros.moveit.joints import joints_from_text, moveit_joints
from wam.ros.moveit.process import ProcessChecker, helper_command
from wam.ros.moveit.scene import MoveItScene

ROOT = Path(__file__).resolve().parents[2]
ROBOT = load_robot("piper")
HOME = np.array([joint.home for joint in ROBOT.joints])
ARM = np.array([0.0 if joint.name.endswith("gripper") else 1.0 for joint in ROBOT.joints])


def start_helper(
    monkeypatch: pytest.MonkeyPatch, folder: Path, robot: RobotDescription = ROBOT, **told: Any
) -> ProcessChecker:
    """Start the helper on the stand-in of moveit_py, whose model has the joints of `robot` unless `told` otherwise."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(make_moveit(folder)), str(ROOT)]))
    told = {"joints": dict.fromkeys(model_joints(robot).names, 0.0), **told}
    parameters = folder / "moveit.json"
    parameters.write_text(json.dumps(told), encoding="utf-8")
    command = helper_command(robot, group="both_arms", parameters=[str(parameters)])
    return ProcessChecker(model_joints(robot), command)


@pytest.fixture
def checker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessChecker]:
    one = start_helper(monkeypatch, tmp_path)
    yield one
    one.close()


def ask(checker: ProcessChecker, *values: float) -> CheckerAnswer:
    states = np.tile(HOME, (len(values), 1))
    states[:, 0] = values
    checker.submit(states)
    return until(checker.poll)


def until(poll: Callable[[], CheckerAnswer | None]) -> CheckerAnswer:
    answers: list[CheckerAnswer] = []

    def answered() -> bool:
        answers.extend(one for one in (poll(),) if one is not None)
        return bool(answers)

    wait_until(answered, "an answer", turn=lambda: time.sleep(0.005))
    return answers[0]


def test_the_helper_answers_with_the_first_colliding_state_and_its_bodies(checker: ProcessChecker) -> None:
    assert ask(checker, 0.0, 0.1).contact is None
    contact = ask(checker, 0.0, 1.5, 0.0).contact
    assert contact is not None
    # The type of a result's contacts is not bound (moveit2#3685): MoveIt's log has the names.
    assert (contact.index, contact.first, contact.second) == (1, "robot", "planning scene")


def test_objects_attached_to_the_robot_are_checked_and_joints_of_others_stay_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new state has neither: on Humble the positions of joints that are not set are what the memory held."""
    joints = {**dict.fromkeys(model_joints(ROBOT).names, 0.0), "conveyor": 0.7}
    checker = start_helper(monkeypatch, tmp_path, joints=joints, attached=True)
    try:
        assert ask(checker, 0.4).contact is None
        assert ask(checker, 0.6).contact is not None
    finally:
        checker.close()


def test_a_model_without_an_arm_of_the_robot_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checker = start_helper(monkeypatch, tmp_path, joints={"joint1": 0.0, "joint2": 0.0})
    try:
        with pytest.raises(CheckerSilent, match="does not have the joints left_joint1"):
            ask(checker, 0.0)
    finally:
        checker.close()


def test_bodies_are_named_where_moveit_can_name_them() -> None:
    asked: list[Any] = []
    planning_scene = SimpleNamespace(check_collision=lambda *all_of_it: asked.append(all_of_it))
    result = SimpleNamespace(contacts={("left_link3", "box"): []})
    request = SimpleNamespace()
    one = MoveItScene(
        cast(Any, None), joints=(), group="both_arms", detail=lambda: (request, cast(Any, result))
    )
    assert one._bodies(cast(Any, planning_scene), cast(Any, None)) == "left_link3\tbox"
    assert (request.contacts, request.verbose, request.joint_model_group_name) == (True, True, "both_arms")
    result.contacts = {}
    assert one._bodies(cast(Any, planning_scene), cast(Any, None)) == "robot\tplanning scene"


def test_joints_of_the_urdf_follow_those_of_the_driver(checker: ProcessChecker) -> None:
    joints = model_joints(ROBOT)
    positions = joints.positions(HOME[None])[0]
    named = dict(zip(joints.names, positions, strict=True))
    opening = HOME[6]
    assert named["left_gripper_joint1"] == pytest.approx(0.5 * opening)
    assert named["left_gripper_joint2"] == pytest.approx(-0.5 * opening)


def test_an_answer_to_a_question_that_was_given_up_is_not_taken_for_the_next(checker: ProcessChecker) -> None:
    states = np.tile(HOME, (1, 1))
    colliding = states.copy()
    colliding[:, 0] = 1.5
    ask(checker, 0.0)
    checker.submit(colliding)
    checker.submit(states)
    assert until(checker.poll).contact is None


def test_a_state_that_moveit_cannot_judge_is_no_answer(checker: ProcessChecker) -> None:
    with pytest.raises(CheckerSilent, match="unknown joint group both_arms"):
        ask(checker, 9.5)


def test_a_helper_that_dies_is_named_and_started_again(checker: ProcessChecker) -> None:
    clock = [time.monotonic()]
    checker._now = lambda: clock[0]
    with pytest.raises(CheckerSilent, match="exit code 3"):
        ask(checker, 7.5)
    clock[0] += 60.0
    with pytest.raises(CheckerSilent):
        checker.submit(HOME[None])
    assert ask(checker, 0.0).contact is None


def test_a_helper_that_hangs_never_blocks_the_command_thread(checker: ProcessChecker) -> None:
    ask(checker, 0.0)
    states = np.tile(HOME, (1, 1))
    states[:, 0] = 8.5
    checker.submit(states)
    for _ in range(20):
        assert checker.poll() is None
    many = np.tile(states, (4000, 1))
    checker.submit(many)
    with pytest.raises(CheckerSilent, match="does not read"):
        checker.submit(many)


def test_without_moveit_the_helper_says_so_and_the_arm_would_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = helper_command(ROBOT, group="", parameters=[])
    if importlib.util.find_spec("moveit") is not None:
        pytest.skip("moveit_py is installed")
    checker = ProcessChecker(model_joints(ROBOT), command)
    try:
        with pytest.raises(CheckerSilent, match="exit code 1"):
            until(lambda: _submit_and_poll(checker))
    finally:
        checker.close()


def _submit_and_poll(checker: ProcessChecker) -> CheckerAnswer | None:
    try:
        checker.submit(HOME[None])
    except CheckerSilent as error:
        if "does not read" not in str(error):
            raise
    return checker.poll()


@pytest.mark.parametrize("robot", ["piper", "franka", "ur5e_inspire"])
def test_the_helper_is_told_the_columns_that_it_is_sent(robot: str) -> None:
    description = load_robot(robot)
    (text,) = [
        one.removeprefix("--joints=")
        for one in helper_command(description, group="", parameters=[])
        if one.startswith("--joints=")
    ]
    told = joints_from_text(text)
    assert told == moveit_joints(description)
    assert tuple(joint.name for joint in told) == model_joints(description).names


@pytest.mark.parametrize("text", ["", "[1]", "[[1, 2]]", "null"])
def test_joints_that_are_no_joints_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="malformed"):
        joints_from_text(text)


def test_the_helper_runs_the_interpreter_of_the_node() -> None:
    command = helper_command(ROBOT, group="g", parameters=["a.yaml"])
    assert command[0] == sys.executable
    assert "--group=g" in command
    assert "--params=a.yaml" in command
