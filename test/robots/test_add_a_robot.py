# SPDX-License-Identifier: Apache-2.0
"""The how-to's robot file is a real one, and the recorded robot's file fits its recording."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from wam.devices.loader import load_robot
from wam.robots.collision import PinocchioChecker
from wam.robots.joint_reader import JointReader
from wam.robots.kinematics import RobotModel, forward_kinematics
from wam.robots.urdf import robot_urdf, urdf_joints

ROOT = Path(__file__).resolve().parents[2]


def test_the_robot_file_in_the_how_to_loads_and_fits_its_model(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "add-a-robot.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(title: .*?)```", page, flags=re.DOTALL)
    file = tmp_path / "desk.yaml"
    file.write_text(text, encoding="utf-8")
    robot = load_robot(file)
    model = RobotModel(robot)
    assert [joint.name for joint in model.chain("link6")] == [f"joint{i}" for i in range(1, 7)]
    home = np.array([joint.home for joint in robot.joints])
    assert model.pose("link6", home)[2, 3] > 0.1


@pytest.mark.recorded
def test_the_recorded_robots_file_fits_every_row_of_its_recording() -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    folder = Path(os.environ.get("WAM_TEST_DATA") or ROOT.parent / "shared" / "data") / "g1_inspire_lerobot"
    info = json.loads((folder / "meta" / "info.json").read_text())
    (group,) = load_robot("g1_inspire").groups
    assert list(group.driver_names) == info["features"]["observation.state"]["names"][0]
    camera = load_robot("g1_inspire").cameras[0]
    assert [camera.height, camera.width, 3] == info["features"]["observation.images.cam_high"]["shape"]
    reader, rows = JointReader(group), 0
    for episode in sorted(folder.glob("data/*/*.parquet")):
        for state in parquet.read_table(episode)["observation.state"].to_pylist():
            positions, _ = reader.read(SimpleNamespace(name=group.driver_names, position=state, velocity=[]))
            np.testing.assert_allclose(positions, state)
            rows += 1
    assert rows > 100


BENT = [0.3, 0.4, -0.5, 0.6, 0.7, -0.8, 0.9]


@pytest.mark.parametrize(
    ("tip", "q", "xyz", "rpy"),
    [
        ("left_palm", [0.0] * 7, (0.2452384, 0.1516538, 0.0512307), (6.0e-05, 5.49e-05, -1.916e-04)),
        ("right_palm", [0.0] * 7, (0.2452384, -0.1516438, 0.0512307), (-6.0e-05, 5.49e-05, 1.916e-04)),
        ("left_palm", BENT, (0.0881734, 0.1627635, -0.05607), (0.6729744, -0.099143, -0.2189875)),
        ("right_palm", BENT, (0.0839776, -0.1586233, -0.0651646), (0.6501143, -0.106157, -0.3793639)),
    ],
)
def test_the_arms_of_the_fourth_robot_are_where_unitrees_description_has_them(
    tip: str, q: list[float], xyz: tuple[float, ...], rpy: tuple[float, ...]
) -> None:
    """Poses of the link rubber_hand in torso_link, computed by Pinocchio from g1_29dof_rev_1_0.urdf of unitree_ros."""
    pinocchio = pytest.importorskip("pinocchio")
    pose = forward_kinematics(load_robot("g1_arms"), tip, q)
    np.testing.assert_allclose(pose[:3, 3], xyz, atol=1e-6)
    np.testing.assert_allclose(pinocchio.rpy.matrixToRpy(pose[:3, :3]), rpy, atol=1e-6)


def test_the_fourth_robot_has_the_limits_of_its_model_and_the_joint_names_of_the_recording() -> None:
    robot = load_robot("g1_arms")
    urdf = urdf_joints(robot_urdf(robot))
    for joint in robot.joints:
        model = urdf[joint.model_joints[0].name]
        assert (joint.lower, joint.upper) == pytest.approx((model.lower, model.upper), abs=1e-5)
    recorded = load_robot("g1_inspire")
    assert robot.joint_names == tuple(name for name in recorded.joint_names if "Hand" not in name)
    assert {group.state_topic for group in robot.groups} == {group.state_topic for group in recorded.groups}


def test_the_fourth_robots_arms_touch_nothing_at_home_and_meet_when_they_are_turned_inwards() -> None:
    robot = load_robot("g1_arms")
    checker = PinocchioChecker(robot)
    home = np.array([joint.home for joint in robot.joints])
    assert not checker.colliding(home)
    inwards = home.copy()
    for name, angle in (("kLeftShoulderYaw", -0.9), ("kRightShoulderYaw", 0.9)):
        inwards[robot.joint_names.index(name)] = angle
    contact = checker.check(np.stack([home, inwards]))
    assert contact is not None
    assert {contact.first, contact.second} == {"left_palm", "right_palm"}


@pytest.mark.recorded
def test_the_fourth_robots_model_meets_itself_in_no_row_of_the_recording() -> None:
    """Shapes that are too large would refuse what the arm has done."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    folder = Path(os.environ.get("WAM_TEST_DATA") or ROOT.parent / "shared" / "data") / "g1_inspire_lerobot"
    names = json.loads((folder / "meta" / "info.json").read_text())["features"]["observation.state"]["names"][
        0
    ]
    robot = load_robot("g1_arms")
    checker = PinocchioChecker(robot, margin=0.0)
    columns = [names.index(name) for name in robot.joint_names]
    for episode in sorted(folder.glob("data/*/*.parquet")):
        rows = np.array(parquet.read_table(episode)["observation.state"].to_pylist())[:, columns]
        assert not any(checker.colliding(row) for row in rows)
