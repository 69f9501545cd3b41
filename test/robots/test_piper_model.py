# SPDX-License-Identifier: Apache-2.0
"""The two Piper arms: forward kinematics against published vectors, limits, zeros, contacts."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pinocchio as pin
import pytest

from wam.core.errors import ConfigError, InputError
from wam.devices.loader import load_robot
from wam.robots.collision import PinocchioChecker
from wam.robots.describe import describe
from wam.robots.kinematics import RobotModel, forward_kinematics
from wam.robots.paths import urdf_dir
from wam.robots.swept import Reaches, body_corners, pair_weights
from wam.robots.urdf import expand_xacro, ignored_pairs, robot_urdf, urdf_joints

PIPER = load_robot("piper")
HOME = np.array([joint.home for joint in PIPER.joints])

# q of joint1..joint6, then xyz [m] and roll, pitch, yaw [rad] of link6 in base_link, rounded to 1e-6; from the vendor's
# table of joint origins (agx_arm_urdf, new zero), checked there against its DH table.
VECTORS = [
    ([0, 0, 0, 0, 0, 0], (0.056135, 0, 0.213178), (0, 1.48353, 0)),
    ([0, 1.57, -1.57, 0, 0, 0], (0.376901, 0, 0.457031), (0, 1.48353, 0)),
    ([0, math.pi / 2, -math.pi / 2, 0, 0.3, 0], (0.375395, 0, 0.429858), (math.pi, 1.358063, math.pi)),
]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("q", "xyz", "rpy"), VECTORS)
def test_forward_kinematics_meet_the_published_vectors(
    side: str, q: list[float], xyz: tuple[float, ...], rpy: tuple[float, ...]
) -> None:
    pose = forward_kinematics(PIPER, f"{side}_link6", q)
    np.testing.assert_allclose(pose[:3, 3], xyz, atol=1e-6)
    turn = pin.log3(pose[:3, :3].T @ pin.rpy.rpyToMatrix(*rpy))
    assert np.linalg.norm(turn) < 1e-6


def test_positions_of_all_joints_give_the_same_pose_as_those_of_the_chain() -> None:
    np.testing.assert_allclose(
        forward_kinematics(PIPER, "right_link6", HOME), forward_kinematics(PIPER, "right_link6", HOME[7:13])
    )


def test_poses_can_be_asked_for_in_the_world() -> None:
    pose = forward_kinematics(PIPER, "left_link6", VECTORS[0][0], base="world")
    np.testing.assert_allclose(pose[:3, 3], (0.056135, 0.3, 0.213178), atol=1e-6)


def test_the_two_zeros_describe_one_arm_whose_joints_read_two_degrees_apart() -> None:
    old = replace(PIPER, xacro_args=(("dh_is_offset", "0"), ("gripper_width", "0.07")))
    q = np.array([0.3, 1.2, -1.0, 0.2, 0.4, -0.5])
    read_by_old = q + np.radians([0, 2, -2, 0, 0, 0])
    np.testing.assert_allclose(
        forward_kinematics(old, "left_link6", read_by_old),
        forward_kinematics(PIPER, "left_link6", q),
        atol=1e-9,
    )
    same_readings = [forward_kinematics(robot, "left_link6", q)[:3, 3] for robot in (old, PIPER)]
    assert np.linalg.norm(same_readings[0] - same_readings[1]) > 5e-3


@pytest.mark.parametrize("joint", PIPER.joints, ids=lambda joint: joint.name)
def test_limits_of_the_model_equal_those_of_the_robot_file(joint) -> None:
    joints = urdf_joints(robot_urdf(PIPER))
    for coupled in joint.model_joints:
        ends = sorted(coupled.ratio * end + coupled.offset for end in (joint.lower, joint.upper))
        assert [joints[coupled.name].lower, joints[coupled.name].upper] == pytest.approx(ends, abs=1e-12)
        assert joint.velocity * abs(coupled.ratio) <= joints[coupled.name].velocity


def test_one_gripper_value_opens_both_fingers_by_half() -> None:
    model = RobotModel(PIPER)
    positions = HOME.copy()
    positions[6] = 0.06
    tips = [model.pose(f"left_gripper_link{i}", positions, base="left_gripper_base")[:3, 3] for i in (1, 2)]
    np.testing.assert_allclose(tips, [[0, -0.03, 0.1358], [0, 0.03, 0.1358]], atol=1e-7)


def test_the_arm_does_not_touch_itself_the_other_arm_or_the_table_at_home(tmp_path: Path) -> None:
    assert _contacts(HOME, tmp_path) == set()


def test_a_gripper_in_the_table_is_a_contact(tmp_path: Path) -> None:
    low = HOME.copy()
    low[1] = 2.2
    assert ("left_gripper_base", "table") in _contacts(low, tmp_path) or (
        "left_gripper_link1",
        "table",
    ) in _contacts(low, tmp_path)


def test_every_ignored_pair_names_links_of_the_model() -> None:
    links = set(RobotModel(PIPER).links)
    pairs = ignored_pairs(PIPER)
    assert len(pairs) == 28
    for pair in pairs:
        assert len(pair) == 2
        assert pair <= links


def test_the_single_arm_takes_a_prefix() -> None:
    urdf = expand_xacro(urdf_dir() / "piper" / "piper.urdf.xacro", {"prefix": "a_"})
    assert "a_joint6" in urdf_joints(urdf)


def test_the_optical_frame_looks_at_the_table_between_the_arms() -> None:
    pose = forward_kinematics(PIPER, "head_camera_optical_frame", [])
    eye, forward = pose[:3, 3], pose[:3, 2]
    hit = eye - forward * eye[2] / forward[2]
    assert 0.2 < hit[0] < 0.5
    assert abs(hit[1]) < 1e-6
    np.testing.assert_allclose(pose[:3, 0], [0, -1, 0], atol=1e-9)


def test_a_mistyped_xacro_argument_is_refused() -> None:
    """xacro itself ignores it, and the arm would silently have the default's zero."""
    wrong = replace(PIPER, xacro_args=(("dh_is_ofset", "0"),))
    with pytest.raises(ConfigError, match="got 'dh_is_ofset'; allowed: dh_is_offset, gripper_width"):
        robot_urdf(wrong)


def test_a_driven_joint_that_the_model_lacks_is_refused() -> None:
    left = PIPER.groups[0]
    joints = (
        replace(left.joints[0], model_joints=(replace(left.joints[0].model_joints[0], name="left_elbow"),)),
    )
    wrong = replace(PIPER, groups=(replace(left, joints=joints),))
    with pytest.raises(
        ConfigError, match=r"joint left_joint1 drives a joint .*got 'left_elbow'; allowed: left_joint1"
    ):
        RobotModel(wrong)


def test_a_robot_without_a_model_says_so() -> None:
    with pytest.raises(ConfigError, match="robot g1_inspire has no model"):
        forward_kinematics(load_robot("g1_inspire"), "hand", [0.0])


def test_a_faulty_xacro_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.urdf.xacro"
    file.write_text(
        '<robot name="x" xmlns:xacro="http://www.ros.org/wiki/xacro"><link name="${nothing}"/></robot>'
    )
    with pytest.raises(ConfigError, match=r"broken.urdf.xacro cannot be expanded: .*nothing"):
        expand_xacro(file, {})


def test_a_model_is_expanded_once_for_a_robot_and_anew_when_its_file_is_read_again(tmp_path: Path) -> None:
    """A safety node expanded the same file three times, for a checker of every thread."""
    file = tmp_path / "model.urdf.xacro"
    file.write_text('<robot name="first"/>')
    robot = replace(PIPER, urdf=file, xacro_args=())
    assert robot_urdf(robot) is robot_urdf(robot)
    file.write_text('<robot name="second"/>')
    assert "second" in robot_urdf(replace(robot))


def test_a_body_reaches_as_far_in_every_pair_as_it_does_alone() -> None:
    """How far a body is from the axes that carry it is found once, and not for every pair that it is in."""
    checker = PinocchioChecker(PIPER)
    geometry = checker.pinocchio[2]
    bodies, reaches = geometry.geometryObjects, Reaches(checker.model)
    alone = [
        sum(
            reaches.weights(
                bodies[one].parentJoint, body_corners(bodies[one]), against=bodies[other].parentJoint
            )
            for one, other in ((pair.first, pair.second), (pair.second, pair.first))
        )
        for pair in geometry.collisionPairs
    ]
    np.testing.assert_array_equal(pair_weights(checker.model, geometry), alone)


@pytest.mark.parametrize(
    ("tip", "q", "why"),
    [
        (
            "left_hand",
            [0.0] * 6,
            r"has no link of this name: got 'left_hand', did you mean 'left_link6'\?; allowed: world, ",
        ),
        ("left_link6", [0.0] * 5, r"got '5 values'; allowed: 6 \(left_joint1, .*\) or all 14"),
        ("left_link6", [math.nan] * 6, "is not finite"),
    ],
)
def test_a_wrong_question_names_what_is_allowed(tip: str, q: list[float], why: str) -> None:
    with pytest.raises(InputError, match=why):
        forward_kinematics(PIPER, tip, q)


def test_a_base_that_does_not_carry_the_tip_is_refused() -> None:
    with pytest.raises(InputError, match="right_base_link does not carry left_link6"):
        forward_kinematics(PIPER, "left_link6", [0.0] * 6, base="right_base_link")


def test_the_description_for_people_holds_units_topics_and_frames() -> None:
    told = describe(PIPER)
    left = told["groups"][0]
    assert left["state"] == {"topic": "left/joint_states_single", "rate_hz": 200.0, "max_age_s": 0.1}
    assert [joint["unit"] for joint in left["joints"]] == ["rad"] * 6 + ["m"]
    assert {"link": "left_link6", "parent": "left_link5", "joint": "left_joint6", "kind": "revolute"} in told[
        "frames"
    ]
    assert describe(load_robot("g1_inspire"))["model"] is None


def _contacts(positions: np.ndarray, folder: Path) -> set[tuple[str, ...]]:
    model = RobotModel(PIPER)
    file = folder / "piper.urdf"
    file.write_text(model.urdf)
    geometry = pin.buildGeomFromUrdf(model.pinocchio_model, str(file), pin.GeometryType.COLLISION)
    geometry.addAllCollisionPairs()
    data, results = model.pinocchio_model.createData(), geometry.createData()
    pin.computeCollisions(
        model.pinocchio_model, data, geometry, results, model.configuration(positions), False
    )
    ignored = ignored_pairs(PIPER)
    touching = set()
    for i, pair in enumerate(geometry.collisionPairs):
        links = tuple(
            sorted(
                model.pinocchio_model.frames[geometry.geometryObjects[side].parentFrame].name
                for side in (pair.first, pair.second)
            )
        )
        if results.collisionResults[i].isCollision() and frozenset(links) not in ignored:
            touching.add(links)
    return touching
