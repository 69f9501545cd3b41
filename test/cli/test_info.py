# SPDX-License-Identifier: Apache-2.0
"""`wam info`: lists what there is and shows one of them, as tables and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wam.cli import main as cli
from wam.policies.registry import registry

ROOT = Path(__file__).resolve().parents[2]


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert cli.run(["info", *arguments, "--json"]) == cli.EXIT_OK
    values: dict[str, Any] = json.loads(capsys.readouterr().out)
    return values


def test_every_robot_file_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    files = {path.stem for path in (ROOT / "config" / "robots").glob("*.yaml")}
    robots = shown(capsys)["robots"]
    assert {robot["name"] for robot in robots} == files
    assert not [robot for robot in robots if "error" in robot]


def test_every_kind_offers_its_presets_and_a_tiny_policy(capsys: pytest.CaptureFixture[str]) -> None:
    values = shown(capsys)
    assert "fake" in values["policies"]
    assert "aha_wam/random" in values["policies"]
    assert "aha_wam/paper" in values["presets"]
    assert {name.partition("/")[0] for name in values["presets"]} == set(registry().kinds)


def test_a_faulty_robot_file_is_told_and_hides_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    robots = tmp_path / "robots"
    robots.mkdir()
    (robots / "broken.yaml").write_text("name: [")
    (robots / "piper.yaml").write_text((ROOT / "config" / "robots" / "piper.yaml").read_text())
    monkeypatch.setattr("wam.robots.paths.config_dir", lambda: tmp_path)
    by_name = {robot["name"]: robot for robot in shown(capsys)["robots"]}
    assert "error" in by_name["broken"]
    assert "error" not in by_name["piper"]


def test_the_pose_of_a_tip_is_told_in_its_base(capsys: pytest.CaptureFixture[str]) -> None:
    asked = (
        "--robot",
        "ur5e_inspire",
        "--fk",
        "tool0",
        "--q",
        "0, -1.5707963267948966, 0 -1.5707963267948966 0 0",
    )
    values = shown(capsys, *asked)
    assert values["base"] == "base_link"
    assert [row[3] for row in values["pose"]] == pytest.approx([0, 0.2329, 1.0794, 1], abs=1e-9)
    turned = shown(capsys, *asked, "--base", "base_link_inertia")
    assert [row[3] for row in turned["pose"]] == pytest.approx([0, -0.2329, 1.0794, 1], abs=1e-9)
    assert cli.run(["info", *asked]) == cli.EXIT_OK
    assert "1.079400" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("robot", "texts"),
    [
        (
            "piper",
            (
                "group left, driver piper: left_base_link to left_link6",
                "left/joint_states_single at 200 Hz",
                "measured = reported x 1.0005327; sent = wanted x 0.99949306",
                "names in the driver: joint1, joint2",
                "left_gripper_link1",
                "dh_is_offset:=1",
            ),
        ),
        (
            "ur5e_inspire",
            (
                "shoulder_lift_joint",
                "hand/joint_command (joint_state_stream) at 100 Hz, 0.066 s early",
                "all: the device counts 0 at lower .. 1000 at upper",
                "ur_arm_controller/joint_trajectory (joint_trajectory) at 25 Hz",
                "camera static (orbbec_gemini_336l): frame static_color_optical_frame",
                "reliability auto",
                "thumb_proximal_pitch_joint",
            ),
        ),
    ],
)
def test_a_robot_is_shown_with_joints_topics_units_and_frames(
    robot: str, texts: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a terminal of 80 columns joint names were cut off."""
    monkeypatch.setenv("COLUMNS", "100")
    assert cli.run(["info", "--robot", robot]) == cli.EXIT_OK
    out = capsys.readouterr().out
    assert [text for text in texts if text not in out] == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--robot", "franka", "--fk", "fr3_link8", "--q", "0 0 x"), "got '0 0 x'"),
        (("--robot", "franka", "--fk", "fr3_link8", "--q", "0 0"), "got '2 values'; allowed: 7 (fr3_joint1"),
        (("--robot", "franka", "--fk", "fr3_link9", "--q", "0"), "has no link of this name: got 'fr3_link9'"),
        (("--fk", "fr3_link8", "--q", "0"), "allowed: --robot NAME --fk LINK --q POSITIONS"),
        (("--robot", "g1_inspire", "--fk", "hand", "--q", "0"), "has no model"),
    ],
)
def test_a_pose_that_cannot_be_told_says_why(
    arguments: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["info", *arguments]) == cli.EXIT_COULD_NOT_RUN
    assert why in " ".join(capsys.readouterr().err.split())


def test_a_robot_is_shown_with_its_joints_and_limits(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["info", "--robot", "piper"]) == cli.EXIT_OK
    text = capsys.readouterr().out
    assert "left_joint1" in text
    assert "right_gripper" in text
    values = shown(capsys, "--robot", "piper")
    assert values["groups"][0]["joints"][0]["unit"] == "rad"


def test_the_payload_of_a_group_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "config" / "robots" / "piper.yaml").read_text(encoding="utf-8")
    text = text.replace(
        "    tip_link: left_link6\n",
        "    tip_link: left_link6\n    payload: {mass: 0.4, center_of_mass: [0, 0, 0.06]}\n",
    )
    file = tmp_path / "loaded.yaml"
    file.write_text(text, encoding="utf-8")
    assert cli.run(["info", "--robot", str(file)]) == cli.EXIT_OK
    assert "payload  0.4 kg, center of mass (0, 0, 0.06) m in left_link6" in capsys.readouterr().out
    payloads = [group["payload"] for group in shown(capsys, "--robot", str(file))["groups"]]
    assert payloads == [{"mass": 0.4, "center_of_mass": [0, 0, 0.06]}, None]


def test_a_preset_is_shown_with_its_parameters_without_building_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    values = shown(capsys, "--preset", "aha_wam/paper")
    assert values["config"]["video"]["layers"] == 30
    assert values["parameters"]["total"] > 5e9
    assert cli.run(["info", "--preset", "aha_wam/paper"]) == cli.EXIT_OK
    assert "total" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--robot", "nao"), "piper"),
        (("--preset", "aha_wam/huge"), "aha_wam/paper"),
        (("--policy", "/nowhere"), "a directory with policy.yaml"),
        (("--robot", "piper", "--preset", "aha_wam/tiny"), "one of them"),
    ],
)
def test_what_does_not_exist_is_told_with_what_does(
    arguments: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["info", *arguments]) == cli.EXIT_COULD_NOT_RUN
    captured = capsys.readouterr()
    assert captured.out == ""
    assert text in captured.err


def test_a_bundle_is_shown_with_its_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundles = pytest.importorskip("wam.policies.bundles", reason="needs torch (requirements/model.txt)")
    bundles.make_tiny_bundle(tmp_path / "tiny", "aha_wam")
    values = shown(capsys, "--policy", str(tmp_path / "tiny"))
    assert values["kind"] == "aha_wam"
    assert len(values["contract_hash"]) == 64
    assert len(values["action_joints"]) == 14


def test_a_bundle_is_shown_without_rows_that_say_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A converted bundle showed `trained_on: episodes 0` and an empty task, and not what it would do."""
    bundles = pytest.importorskip("wam.policies.bundles")
    bundles.make_tiny_bundle(tmp_path / "tiny", "aha_wam")
    assert cli.run(["info", "--policy", str(tmp_path / "tiny")]) == 0
    text = capsys.readouterr().out
    assert "instruction" in text
    assert "chunk_rows" in text
    assert "trained_on" not in text
    assert "environment" not in text


def test_the_contract_hash_stands_on_one_line_in_a_narrow_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 80 columns it was broken in two, so that it could not be searched for."""
    bundles = pytest.importorskip("wam.policies.bundles")
    monkeypatch.setenv("COLUMNS", "80")
    bundles.make_tiny_bundle(tmp_path / "tiny", "aha_wam")
    digest = shown(capsys, "--policy", str(tmp_path / "tiny"))["contract_hash"]
    assert cli.run(["info", "--policy", str(tmp_path / "tiny")]) == 0
    text = capsys.readouterr().out
    assert any(line.split() == ["contract_hash", digest] for line in text.splitlines())
    assert "rad, m, or 1 for a share of 0..1" in text
