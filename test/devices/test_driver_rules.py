# SPDX-License-Identifier: Apache-2.0
"""A robot file that does not fit its driver, its model or itself is refused with file, line, value and remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wam.core.errors import ConfigError
from wam.devices.loader import load_robot
from wam.robots.kinematics import RobotModel
from wam.robots.loader import find_robot
from wam.robots.paths import urdf_dir

JOINT = r"      - driver_name: {}\n.*?(?=      - driver_name: |\n  - name: |\ncameras:)"

FAULTS = [
    (
        "franka",
        JOINT.format("fr3_joint4"),
        "",
        "- driver_name: fr3_joint1",
        r"lacks fr3_joint4: .* claims all seven",
    ),
    (
        "piper",
        JOINT.format("gripper"),
        "",
        "joints: &piper_joints",
        r"groups\[0\].joints lacks gripper: .* to 0 rad",
    ),
    (
        "ur5e_inspire",
        JOINT.format("elbow_joint"),
        "",
        "- driver_name: shoulder_pan",
        r"joints lacks elbow_joint",
    ),
    (
        "ur5e_inspire",
        r"      - name: hand_ring\n.*?(?=      - name: hand_middle)",
        "",
        "- name: hand_pinky",
        r"got '5: pinky, middle",
    ),
    (
        "franka",
        "driver_name: fr3_joint3",
        "driver_name: fr3_joint8",
        "- driver_name: fr3_joint1",
        "lacks fr3_joint3",
    ),
    (
        "franka",
        "driver: franka\n",
        "driver: piper\n",
        "kind: joint_trajectory",
        "none that driver piper takes",
    ),
    (
        "piper",
        "kind: joint_state_stream",
        "kind: joint_trajectory",
        "kind: joint_trajectory",
        "driver piper takes",
    ),
    (
        "franka",
        r"driver_name: fr3_finger_joint1\n        kind: prismatic\n        lower: 0.0\n        upper: 0.04",
        "driver_name: fr3_finger_joint1\n        kind: ratio\n        lower: 0\n        upper: 1",
        "- driver_name: fr3_finger_joint1",
        "of a kind that driver franka_gripper does not have: got 'ratio'",
    ),
    (
        "piper",
        "topic: right/joint_ctrl_single",
        "topic: left/joint_ctrl_single",
        "last kind: joint_state_stream",
        "repeats the command topic",
    ),
    (
        "piper",
        "topic: right/joint_states",
        "topic: left/joint_states",
        "last topic: left/joint_states",
        "repeats the joint of the state topic",
    ),
    (
        "piper",
        "gripper_joint2, ratio",
        "gripper_joint1, ratio",
        "- driver_name: gripper",
        "that another one drives: got 'left_gripper",
    ),
    (
        "franka",
        "name: wrist\n",
        "name: wrist\n    topic: cameras/side/color/image_raw\n",
        "- name: wrist",
        "repeats the camera's topic",
    ),
    ("franka", "value: 100, unit: ms", "value: 100, unit: us", "value: 100, unit: us", "would be stale"),
    ("franka", "(rate: 15\n    max_age: {value: )250", r"\g<1>25", "value: 25,", "at least 0.0666667 s"),
    (
        "franka",
        r"chunk_timeout: \{value: 300",
        "chunk_timeout: {value: 30",
        "value: 30,",
        "chunk would be late",
    ),
    ("ur5e_inspire", "value: 66, unit: ms", "value: 66, unit: deg", "value: 66", "does not fit: got 'deg'"),
    ("piper", r"state: 1.00053270579", "state: 0", "state: 0", r"conversion.state is out of range"),
    (
        "franka",
        "preset: realsense_d435i",
        "preset: kinect",
        "preset: kinect",
        "no known camera: .*orbbec_gemini_336l",
    ),
]


def changed(robot: str, old: str, new: str, folder: Path) -> Path:
    text, count = re.subn(old, new, find_robot(robot).read_text(encoding="utf-8"), count=1, flags=re.DOTALL)
    assert count == 1, f"{old} is not in the file"
    text = re.sub(r"(urdf|srdf): urdf/", rf"\1: {urdf_dir()}/", text)
    file = folder / f"{robot}.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def line_of(file: Path, mark: str) -> int:
    """Return the number of the first line with `mark`, of the last one for "last MARK"."""
    text = mark.removeprefix("last ")
    lines = [i for i, line in enumerate(file.read_text().splitlines(), 1) if text in line]
    return lines[-1 if mark.startswith("last ") else 0]


@pytest.mark.parametrize(
    ("robot", "old", "new", "mark", "why"), FAULTS, ids=[f"{fault[0]}: {fault[4]}" for fault in FAULTS]
)
def test_what_does_not_fit_is_refused_with_its_line(
    robot: str, old: str, new: str, mark: str, why: str, tmp_path: Path
) -> None:
    file = changed(robot, old, new, tmp_path)
    line = line_of(file, mark)
    with pytest.raises(ConfigError, match=why) as caught:
        load_robot(file)
    assert f"{robot}.yaml:{line}: " in str(caught.value)
    assert f"change it in {file}, line {line}" in str(caught.value)


def test_joints_in_another_order_than_the_arm_has_them_are_refused(tmp_path: Path) -> None:
    """A robot file with two joints swapped has the limits of one on the other."""
    old = r"driver_name: fr3_joint1(\n.*?)driver_name: fr3_joint2"
    file = changed("franka", old, r"driver_name: fr3_joint2\1driver_name: fr3_joint1", tmp_path)
    with pytest.raises(
        ConfigError, match="stands in another place: got 'fr3_joint2'; allowed: fr3_joint1 here"
    ):
        load_robot(file)


@pytest.mark.parametrize(
    ("robot", "old", "new", "mark", "why"),
    [
        (
            "franka",
            "tip_link: fr3_hand_tcp",
            "tip_link: hand",
            "tip_link: hand",
            "the URDF lacks a link of this name: got 'hand'",
        ),
        (
            "franka",
            "upper: 0.04",
            "upper: 0.08",
            "- driver_name: fr3_finger_joint1",
            "leave those of fr3_finger_joint1 in the URDF: got '0 .. 0.08'",
        ),
        (
            "ur5e_inspire",
            "hand_side: right",
            "hand_side: middle",
            "",
            "side of the hand: middle; allowed: right, left",
        ),
        ("piper", "dh_is_offset: 1", "dh_is_offset: 2", "", "dh_is_offset: 2; allowed: 0, 1"),
    ],
)
def test_a_file_that_does_not_fit_its_model_is_refused(
    robot: str, old: str, new: str, mark: str, why: str, tmp_path: Path
) -> None:
    file = changed(robot, old, new, tmp_path)
    robot_file = load_robot(file)
    with pytest.raises(ConfigError, match=why) as caught:
        RobotModel(robot_file)
    assert not mark or f"{robot}.yaml:{line_of(file, mark)}: " in str(caught.value)


def test_two_groups_may_share_a_state_topic_whose_joints_differ(tmp_path: Path) -> None:
    """A hand behind ros2_control reports in the same joint_states as the arm."""
    robot = load_robot(changed("ur5e_inspire", "topic: hand/joint_states", "topic: joint_states", tmp_path))
    assert len({group.state_topic for group in robot.groups}) == 1
