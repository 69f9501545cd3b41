# SPDX-License-Identifier: Apache-2.0
"""`wam doctor`: what each check finds, and what it tells people to do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from wam.cli import checks, doctor
from wam.cli import main as cli
from wam.cli.machine_check import Check, Outcome
from wam.core.transport.identity import ProcessIdentity, this_process
from wam.core.transport.segment import SegmentName

OK = Check("python", Outcome.OK, "3.12")
WARN = Check("disk", Outcome.WARN, "1 GiB free", "make room")
FAIL = Check("rclpy", Outcome.FAIL, "not installed [rclpy]", "make setup")


def answer_with(monkeypatch: pytest.MonkeyPatch, *found: Check) -> None:
    groups: list[Callable[[], list[Check]]] = [lambda check=check: [check] for check in found]  # type: ignore[misc]
    monkeypatch.setattr(doctor, "all_checks", lambda environment: groups)


@pytest.mark.parametrize(("found", "code"), [((OK,), 0), ((OK, WARN), 0), ((OK, FAIL, WARN), 2)])
def test_only_a_failure_makes_the_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, found: tuple[Check, ...], code: int
) -> None:
    answer_with(monkeypatch, *found)
    assert cli.run(["doctor"]) == code


def test_the_table_shows_outcome_finding_and_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_with(monkeypatch, OK, FAIL)
    cli.run(["doctor"])
    text = capsys.readouterr().out
    assert "FAIL" in text
    assert "not installed [rclpy]" in text
    assert "→ make setup" in text
    assert "2 checks: 0 hints, 0 warnings, 1 failure\n" in text


def test_json_holds_the_same_checks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_with(monkeypatch, OK, FAIL)
    assert cli.run(["doctor", "--json"]) == 2
    shown = json.loads(capsys.readouterr().out)
    assert shown["ok"] is False
    assert shown["checks"][1] == {
        "name": "rclpy",
        "outcome": "FAIL",
        "found": "not installed [rclpy]",
        "remedy": "make setup",
    }


def test_two_ros_installations_at_once_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_has_wheels", lambda: True)
    found = checks.mixture_check({"PYTHONPATH": "/opt/ros/jazzy/lib/python3.12/site-packages"})
    assert found.outcome is Outcome.FAIL
    assert "/opt/ros/jazzy" in found.found
    assert "env.sh" in found.remedy


@pytest.mark.parametrize("environment", [{}, {"ROS_DOMAIN_ID": "0"}])
def test_the_domain_that_everybody_shares_is_a_warning(environment: dict[str, str], tmp_path: Path) -> None:
    profile = tmp_path / "profile.xml"
    profile.touch()
    found = checks.network_check({**environment, "FASTDDS_DEFAULT_PROFILES_FILE": str(profile)})
    assert found.outcome is Outcome.WARN
    assert "export ROS_DOMAIN_ID=" in found.remedy


def test_a_profile_that_does_not_exist_is_a_failure(tmp_path: Path) -> None:
    found = checks.network_check({"FASTDDS_DEFAULT_PROFILES_FILE": str(tmp_path / "none.xml")})
    assert found.outcome is Outcome.FAIL


def test_a_robot_is_looked_for_where_the_shell_says_and_the_line_shows_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It chose a domain by itself where the shell named none, and said that there is no driver."""
    asked: list[dict[str, str]] = []
    monkeypatch.setattr(doctor, "robot_checks", lambda robot, environment: asked.append(environment) or [OK])
    for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert cli.run(["doctor", "--robot", "piper", "--json"]) == 0
    assert (
        "ROS domain 0 (ROS's default), range SUBNET"
        in json.loads(capsys.readouterr().out)["checks"][0]["found"]
    )
    assert not {"ROS_DOMAIN_ID", "FASTDDS_DEFAULT_PROFILES_FILE"} & asked[0].keys()


@pytest.mark.parametrize(
    ("middleware", "told"), [("", True), ("rmw_fastrtps_cpp", True), ("rmw_zenoh_cpp", False)]
)
def test_fast_dds_without_a_profile_is_told_to_drop_images(middleware: str, told: bool) -> None:
    found = checks.network_check({"ROS_DOMAIN_ID": "42", "RMW_IMPLEMENTATION": middleware})
    assert found.outcome is Outcome.OK
    assert ("fastdds_subnet.xml" in found.remedy) is told


def test_segments_of_dead_planners_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "MIN_SHM_BYTES", 0)
    dead = ProcessIdentity(pid=2**22 - 1, start_ticks=1)
    for owner in (dead, this_process()):
        (tmp_path / str(SegmentName(os.geteuid(), owner, "0" * 16, "0"))).touch()
    (tmp_path / "sem.other").touch()
    found = checks.shared_memory_check(tmp_path)
    assert "2 context segments" in found.found
    assert found.outcome is Outcome.WARN
    assert "1 of dead planners" in found.found


def test_missing_shared_memory_is_a_failure(tmp_path: Path) -> None:
    assert checks.shared_memory_check(tmp_path / "none").outcome is Outcome.FAIL


def test_a_missing_compiler_names_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.shutil, "which", lambda program: None)
    found = checks.compiler_check()
    assert found.outcome is Outcome.WARN
    assert found.remedy == "sudo apt install g++ cmake"


def test_optional_ros_parts_are_named_and_never_a_failure() -> None:
    found = checks.optional_check({"ROS_DISTRO": "jazzy"})
    assert found.outcome is Outcome.OK
    for name in checks.OPTIONAL_ROS_PARTS:
        assert name in found.found


def test_a_probe_that_cannot_run_answers_with_its_last_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "probes.py"
    broken.write_text("print('noise')\nraise OSError('libEGL.so.1: cannot open shared object file')\n")
    monkeypatch.setattr(checks, "PROBES", str(broken))
    answer, error = checks.probe("render", os.environ)
    assert answer is None
    assert error == "OSError: libEGL.so.1: cannot open shared object file"
    assert checks.render_check(os.environ).remedy.startswith("sudo apt install libegl1 libgl1-mesa-dri")


def test_a_probe_that_crashes_is_told_with_its_signal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "probes.py"
    broken.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(checks, "PROBES", str(broken))
    assert checks.probe("ros", os.environ) == (None, "crashed with signal 11")


def test_a_probe_that_takes_too_long_is_not_told_to_install_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On a machine at load 18, torch took more than a minute to import, and `make setup` was advised."""
    endless = tmp_path / "probes.py"
    endless.write_text("import threading\nthreading.Event().wait()\n")
    monkeypatch.setattr(checks, "PROBES", str(endless))
    monkeypatch.setattr(checks, "PROBE_TIMEOUT_S", 0.2)
    found = checks.torch_check(os.environ)
    assert (found.outcome, found.found) == (Outcome.FAIL, "no answer within 0 s")
    assert "call it again" in found.remedy


def test_a_probe_is_not_fooled_by_the_source_folder_of_the_messages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From the repository root, `wam_msgs` is found as a namespace package even when nothing is built."""
    asks = tmp_path / "probes.py"
    asks.write_text("import json, os, sys\nprint(json.dumps({'path': sys.path, 'cwd': os.getcwd()}))\n")
    monkeypatch.setattr(checks, "PROBES", str(asks))
    root = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(root)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    answer, _ = checks.probe("messages", environment)
    assert answer is not None
    assert str(root) not in answer["path"]
    assert answer["cwd"] != str(root)


@pytest.mark.ros
def test_the_probe_sends_a_message_through_dds() -> None:
    answer, error = checks.probe("ros", os.environ)
    assert answer is not None, error
    assert answer["arrived"]
    assert answer["rmw"].startswith("rmw_")


@pytest.mark.ros
def test_the_probe_finds_the_built_messages() -> None:
    found = checks.messages_check(os.environ)
    assert found.outcome is Outcome.OK, found.found


@pytest.mark.camera
def test_the_probe_renders_a_red_ball() -> None:
    found = checks.render_check(os.environ)
    assert found.outcome is Outcome.OK, found.found


def test_a_command_of_a_remedy_stands_on_one_line_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At 80 columns an export line was broken in mid-path and could not be copied."""
    monkeypatch.setenv("COLUMNS", "80")
    path = "/" + "/".join(["a-long-folder"] * 8)
    line = f"export FASTDDS_DEFAULT_PROFILES_FILE={path}/fastdds_shm.xml"
    answer_with(
        monkeypatch, OK, Check("profile", Outcome.WARN, f"not set, see {path} and\nmore", f"run\n{line}")
    )
    cli.run(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert any(one.strip() == line for one in lines)
    assert any(path in one for one in lines)
