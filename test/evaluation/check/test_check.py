# SPDX-License-Identifier: Apache-2.0
"""A check names every problem of a recording at once, how bad it is, and what helps."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_dataset import write_fake_dataset

from wam.cli.main import run
from wam.core.errors import RecordingError
from wam.data.bag.topics import EPOCH_NS
from wam.data.bag.writing import BagWriter, Storage, new_bag
from wam.data.fakes import fake_image, fake_robot, write_fake_bag
from wam.evaluation.check import CheckReport, ProblemKind, RecordingProblem, Severity, check_recording

ROBOT = fake_robot()
NAMES = ROBOT.groups[0].driver_names
PERIOD_NS = 33_333_333


def check(path: Path, *, robot: bool = True) -> CheckReport:
    return check_recording(path, robot=ROBOT if robot else None)


def of(report: CheckReport, kind: ProblemKind) -> list[RecordingProblem]:
    return [problem for problem in report.problems if problem.kind is kind]


def write(path: Path, state: Callable[[BagWriter, int, int], None], *, camera: bool = True) -> Path:
    """Write a bag of sixty rows; `state` writes the joint states of a row: its number and time [ns]."""
    with new_bag(path, storage=Storage.MCAP, metadata={}) as bag:
        for i in range(60):
            time_ns = EPOCH_NS + i * PERIOD_NS
            state(bag, i, time_ns)
            if camera:
                import cv2

                data = cv2.imencode(".jpg", fake_image(i, height=48, width=64))[1]
                bag.jpeg("/cam_high/image_raw/compressed", time_ns, frame_id="", data=data)
    return path


def at_rest(bag: BagWriter, i: int, time_ns: int) -> None:
    bag.joint_state("/joint_states", time_ns, names=NAMES, positions=np.zeros(3))


def test_a_sound_recording_is_clean(tmp_path: Path) -> None:
    write_fake_bag(tmp_path / "bag", robot=ROBOT)
    report = check(tmp_path / "bag")
    assert (report.problems, report.passed, report.robot, report.checked) == (
        (),
        True,
        "fake",
        "181 messages",
    )
    assert check(tmp_path / "bag", robot=False).problems == ()


def test_every_problem_is_named_and_not_the_first_alone(tmp_path: Path) -> None:
    def state(bag: BagWriter, i: int, time_ns: int) -> None:
        positions = np.array([0.0, np.nan if i == 5 else 0.1, 3.2])
        bag.joint_state("/joint_states", time_ns, names=NAMES, positions=positions)
        bag.joint_state("/action", time_ns, names=("j0", "j1", "j2"), positions=np.array([9.0, 0.0, 0.0]))

    report = check(write(tmp_path / "bag", state, camera=False))
    assert not report.passed
    (camera,) = of(report, ProblemKind.CAMERAS)
    assert (camera.severity, "/cam_high/image_raw/compressed" in camera.text) == (Severity.ERROR, True)
    assert "--remap" in camera.remedy
    assert any("non-finite position for d1" in one.text for one in of(report, ProblemKind.MESSAGES))
    limits = {one.where: one.text for one in of(report, ProblemKind.JOINTS)}
    assert "measured beyond their limits, the furthest is j2" in limits["/joint_states"]
    assert (
        "commanded beyond their limits, the furthest is j0: 9 .. 9 rad, allowed: -3 .. 3" in limits["/action"]
    )
    severities = [problem.severity for problem in report.problems]
    assert severities == sorted(severities, key=list(Severity).index)
    assert all(problem.meaning for problem in report.problems)


def test_a_unit_that_cannot_be_right_is_told_once_with_how_often(tmp_path: Path) -> None:
    def degrees(bag: BagWriter, i: int, time_ns: int) -> None:
        bag.joint_state("/joint_states", time_ns, names=NAMES, positions=np.array([0.0, 0.0, 90.0]))

    path = write(tmp_path / "bag", degrees)
    (problem,) = of(check(path), ProblemKind.MESSAGES)
    assert ("degrees are likely" in problem.text, problem.times) == (True, 60)
    (guess,) = of(check(path, robot=False), ProblemKind.COLUMNS)
    assert (guess.severity, "seem to be in deg" in guess.text) == (Severity.WARNING, True)


def test_two_publishers_that_disagree_and_two_that_take_turns_are_told_apart(tmp_path: Path) -> None:
    def disagree(bag: BagWriter, i: int, time_ns: int) -> None:
        bag.joint_state("/joint_states", time_ns, names=NAMES, positions=np.full(3, 1.0))
        bag.joint_state("/joint_states", time_ns + PERIOD_NS // 2, names=NAMES, positions=np.zeros(3))

    def take_turns(bag: BagWriter, i: int, time_ns: int) -> None:
        bag.joint_state("/joint_states", time_ns, names=NAMES[:2], positions=np.zeros(2))
        bag.joint_state("/joint_states", time_ns + PERIOD_NS // 2, names=NAMES[2:], positions=np.zeros(1))

    (problem,) = of(check(write(tmp_path / "a", disagree)), ProblemKind.PUBLISHERS)
    assert "disagree" in problem.text
    report = check(write(tmp_path / "b", take_turns))
    assert of(report, ProblemKind.PUBLISHERS) == []
    (note,) = of(report, ProblemKind.LAYOUT)
    assert (note.severity, "2 publishers or layouts" in note.text) == (Severity.NOTE, True)


def test_clocks_gaps_and_missing_stamps_are_told(tmp_path: Path) -> None:
    def state(bag: BagWriter, i: int, time_ns: int) -> None:
        jump_ns = 60 * 10**9 if i >= 30 else 0
        bag.joint_state(
            "/joint_states",
            time_ns + jump_ns - 700_000_000,
            names=NAMES,
            positions=np.zeros(3),
            receive_ns=time_ns + jump_ns,
        )
        bag.joint_state("/action", 0, names=NAMES, positions=np.zeros(3), receive_ns=time_ns + jump_ns)

    report = check(write(tmp_path / "bag", state, camera=False))
    assert any("nothing was recorded for" in one.text for one in of(report, ProblemKind.GAPS))
    clocks = " | ".join(f"{one.where}: {one.text}" for one in of(report, ProblemKind.CLOCKS))
    assert "60 without a stamp" in clocks


def test_topics_of_clocks_that_are_hours_apart_are_an_error_and_the_rest_is_still_checked(
    tmp_path: Path,
) -> None:
    def state(bag: BagWriter, i: int, time_ns: int) -> None:
        bag.joint_state(
            "/joint_states", time_ns - 10**13, names=NAMES, positions=np.full(3, 3.1), receive_ns=time_ns
        )

    report = check(write(tmp_path / "bag", state))
    assert any(
        one.severity is Severity.ERROR and "different clocks" in one.text
        for one in of(report, ProblemKind.CLOCKS)
    )
    assert of(report, ProblemKind.JOINTS)


def test_what_a_file_that_was_cut_off_has_lost_is_told_and_what_is_left_is_checked(tmp_path: Path) -> None:
    write_fake_bag(tmp_path / "bag", robot=ROBOT)
    (file,) = (tmp_path / "bag").glob("*.mcap")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    report = check(tmp_path / "bag")
    (problem,) = of(report, ProblemKind.FILES)
    assert problem.severity is Severity.WARNING
    assert "ends before its recorder had finished it: lost are 30 messages of" in problem.text
    assert 0 < int(report.checked.split()[0]) < 181


def test_an_image_of_another_size_and_one_that_is_damaged_are_told(tmp_path: Path) -> None:
    write_fake_bag(tmp_path / "bag", robot=fake_robot(height=24))
    assert any("another size" in one.text for one in of(check(tmp_path / "bag"), ProblemKind.CAMERAS))
    with new_bag(tmp_path / "torn", storage=Storage.MCAP, metadata={}) as bag:
        for i in range(40):
            at_rest(bag, i, EPOCH_NS + i * PERIOD_NS)
            torn = np.frombuffer(b"\xff\xd8 not a jpeg", dtype=np.uint8)
            bag.jpeg("/cam_high/image_raw/compressed", EPOCH_NS + i * PERIOD_NS, frame_id="", data=torn)
    (problem,) = of(check(tmp_path / "torn"), ProblemKind.CAMERAS)
    assert (problem.severity, problem.times) == (Severity.ERROR, 40)


def test_a_data_set_is_checked_episode_by_episode(tmp_path: Path) -> None:
    robot = replace(ROBOT)
    root = write_fake_dataset(tmp_path / "data", rows=12)
    assert check_recording(root, robot=robot).problems == ()
    short = write_fake_dataset(tmp_path / "short", rows=12, video_frames=9)
    (problem,) = of(check_recording(short, robot=robot), ProblemKind.RATE)
    assert (problem.severity, problem.times, "shorter than the table" in problem.text) == (
        Severity.ERROR,
        2,
        True,
    )
    for video in root.rglob("episode_000001.mp4"):
        video.unlink()
    (root / "data" / "._chunk").write_bytes(b"")
    report = check_recording(root, robot=robot)
    assert [(one.kind, one.severity) for one in report.problems] == [
        (ProblemKind.LAYOUT, Severity.WARNING),
        (ProblemKind.CAMERAS, Severity.WARNING),
    ]


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        (
            lambda info: info["features"]["observation.state"].update(names=None),
            ProblemKind.COLUMNS,
            "names no",
        ),
        (lambda info: info.update(fps=15), ProblemKind.RATE, "frame rate"),
        (lambda info: info.update(codebase_version="v1.6"), ProblemKind.FILES, "codebase_version"),
        (lambda info: info["features"].pop("action"), ProblemKind.ACTION, "no such key"),
    ],
)
def test_faults_of_metadata_are_told(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], kind: ProblemKind, says: str
) -> None:
    root = write_fake_dataset(tmp_path / "data")
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text(encoding="utf-8"))
    change(info)
    path.write_text(json.dumps(info), encoding="utf-8")
    assert any(says in problem.text for problem in of(check(root), kind))


def test_the_command_ends_with_2_where_an_error_was_found_and_1_where_nothing_could_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_fake_bag(tmp_path / "bag", robot=ROBOT)
    assert run(["check", str(tmp_path / "bag")]) == 0
    assert "nothing found" in capsys.readouterr().out
    assert run(["check", str(tmp_path / "bag"), "--robot", "piper", "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert (report["schema"], report["passed"], report["errors"]) == (
        "wam/check/1",
        False,
        sum(problem["severity"] == "error" for problem in report["problems"]),
    )
    assert {"severity", "kind", "where", "text", "meaning", "remedy", "times"} == set(report["problems"][0])
    assert run(["check", str(tmp_path / "nothing")]) == 1
    error = capsys.readouterr().err.strip()
    assert ("does not exist" in error, "\n" in error) == (True, False)


def test_what_is_no_recording_cannot_be_checked(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes", encoding="utf-8")
    with pytest.raises(RecordingError, match="not a recording"):
        check(tmp_path / "notes.txt")
