# SPDX-License-Identifier: Apache-2.0
"""Robot files are read strictly: what is returned is valid, what is refused says where and why."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from robot_file_texts import FAULTS, GOOD

from wam.core.errors import ConfigError
from wam.core.safety.effort import NO_LIMITS, EffortLimits
from wam.devices.loader import load_robot
from wam.robots.camera_spec import CameraTransport
from wam.robots.description import CommandKind, JointKind
from wam.robots.loader import find_robot, list_robots
from wam.robots.twin_spec import CommandInterface, TwinSpec
from wam.robots.units import UNITS, Dimension


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "arm.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_good_file_becomes_a_description_in_si_units(tmp_path: Path) -> None:
    robot = load_robot(write(tmp_path, GOOD))
    assert robot.name == "arm"
    assert robot.joint_names == ("my_joint1", "my_gripper")
    group = robot.group("arm")
    assert group.driver_names == ("joint1", "gripper")
    assert group.state_max_age_ns == 50_000_000
    assert group.command_kind is CommandKind.JOINT_STATE_STREAM
    joint, gripper = group.joints
    assert joint.kind is JointKind.REVOLUTE
    assert joint.lower == pytest.approx(-math.pi / 2)
    assert joint.velocity == pytest.approx(math.pi)
    assert joint.home == 0.25
    assert gripper.upper == pytest.approx(0.07)
    assert gripper.jerk == 10.0
    camera = robot.camera("head")
    assert camera.transport is CameraTransport.RAW
    assert (camera.height, camera.width, camera.max_age_ns) == (240, 320, 200_000_000)
    assert robot.safety.chunk_timeout_ns == 250_000_000
    assert robot.urdf is None


def test_how_a_twin_behaves_is_read_from_the_robot_file() -> None:
    ur = load_robot("ur5e_inspire")
    assert (ur.group("arm").twin.delay_ns, ur.group("hand").twin.delay_ns) == (30_000_000, 66_000_000)
    assert ur.camera("wrist").latency_ns == 40_000_000
    assert load_robot("franka").group("arm").twin.interface is CommandInterface.EFFORT
    assert load_robot("piper").group("left").twin == TwinSpec()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("{interface: torque}", "effort, position"),
        ("{delay: {value: 2, unit: s}}", "twin.delay"),
        ("{speed: 1}", "twin"),
    ],
)
def test_a_twin_that_cannot_be_is_refused(tmp_path: Path, wrong: str, why: str) -> None:
    text = find_robot("franka").read_text(encoding="utf-8")
    assert "twin: {interface: effort}" in text
    with pytest.raises(ConfigError, match=why):
        load_robot(write(tmp_path, text.replace("twin: {interface: effort}", f"twin: {wrong}")))


def test_the_payload_and_the_effort_limits_of_a_file_are_read_in_si_units(tmp_path: Path) -> None:
    payload = "payload: {mass: {value: 850, unit: g}, center_of_mass: [0, 0.01, {value: 60, unit: mm}]}"
    limits = "effort: {hold: 12, stop: {value: 20, unit: N m}}"
    text = GOOD.replace("prefix: my_", f"prefix: my_\n    {payload}").replace("home: 0.25", limits)
    group = load_robot(write(tmp_path, text)).group("arm")
    assert group.payload is not None
    assert group.payload.mass == pytest.approx(0.85)
    assert group.payload.center_of_mass == pytest.approx((0.0, 0.01, 0.06))
    assert group.joints[0].effort == EffortLimits(12.0, 20.0, "N m")
    assert not group.joints[0].external_torque.guarded
    assert group.joints[1].effort == NO_LIMITS
    assert load_robot(write(tmp_path, GOOD)).group("arm").payload is None


def test_topics_beside_an_image_follow_image_transport(tmp_path: Path) -> None:
    camera = load_robot(write(tmp_path, GOOD)).camera("head")
    assert camera.compressed_topic == "head/image_raw/compressed"
    assert camera.info_topic == "head/camera_info"
    compressed = GOOD.replace(
        "head/image_raw, transport: raw, encoding: rgb8",
        "head/image_raw/compressed, transport: compressed, encoding: jpeg",
    )
    assert load_robot(write(tmp_path, compressed)).camera("head").raw_topic == "head/image_raw"


@pytest.mark.parametrize(
    ("old", "new", "line", "path", "why"), FAULTS, ids=[f"{f[3]}: {f[4]}" for f in FAULTS]
)
def test_a_fault_is_refused_with_line_and_path(
    tmp_path: Path, old: str, new: str, line: int, path: str, why: str
) -> None:
    assert GOOD.count(old) == 1
    file = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_robot(file)
    text = str(caught.value)
    assert f"arm.yaml:{line}: {path} " in text
    assert why in text
    assert str(file) in text


def test_joint_names_are_distinct_over_all_groups(tmp_path: Path) -> None:
    block = GOOD[GOOD.index("  - name: arm") : GOOD.index("cameras:")]
    file = write(tmp_path, GOOD.replace("cameras:", block.replace("name: arm", "name: other") + "cameras:"))
    with pytest.raises(ConfigError, match=r"arm.yaml:22: groups\[1\].joints\[0\] repeats the joint name"):
        load_robot(file)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("groups: [", r"arm.yaml:1: malformed YAML"),
        ("a: b: c", r"arm.yaml:1: malformed YAML"),
        ("", "is empty"),
        ("- 1", "is not a mapping"),
        ("&a [*a]", "is not a mapping"),
        ("x: !!python/object/apply:os.system [true]", "is an unknown key"),
    ],
)
def test_what_is_no_robot_file_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        load_robot(write(tmp_path, text))


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "arm.yaml"
    file.write_bytes(b"title: \xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load_robot(file)


def test_an_unknown_robot_lists_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"allowed: .*g1_inspire"):
        load_robot("no_such_robot")


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="robot file does not exist"):
        load_robot(tmp_path / "missing.yaml")


def test_robots_are_found_below_an_ament_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "share" / "wam_deploy" / "config" / "robots"
    folder.mkdir(parents=True)
    (folder / "fourth.yaml").write_text(GOOD)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nonexistent:{tmp_path}")
    assert find_robot("fourth") == folder / "fourth.yaml"
    assert "fourth" in list_robots()


@pytest.mark.parametrize("name", list_robots())
def test_every_robot_of_the_suite_loads(name: str) -> None:
    robot = load_robot(name)
    assert robot.name == name
    assert robot.limits().joint_names == robot.joint_names


def test_every_unit_table_starts_with_its_si_unit() -> None:
    for dimension in Dimension:
        assert UNITS[dimension][dimension.value] == 1.0


def test_the_recorded_g1_has_the_joints_of_its_recording_in_their_order() -> None:
    robot = load_robot("g1_inspire")
    assert len(robot.joints) == 26
    assert robot.joint_names[:2] == ("kLeftShoulderPitch", "kLeftShoulderRoll")
    assert robot.joint_names[-1] == "kRightHandThumbRotation"
    assert robot.groups[0].command_kind is CommandKind.NONE
