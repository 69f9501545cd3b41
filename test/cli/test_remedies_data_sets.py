# SPDX-License-Identifier: Apache-2.0
"""What an error about a data set, a robot file or a bundle tells to do is done, and the run gets further."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_dataset import write_fake_dataset, write_video
from remedy_runs import Told, accepted, flag, named, option, refused, remedy, robot_file

from wam.data.bag.reading import Recording
from wam.data.fakes import CAMERA, fake_robot, write_fake_bag
from wam.policies.shipped import bundle_directory, shipped_bundles

KEY = f"observation.images.{CAMERA}"
TABLE = "data/chunk-000/episode_000000.parquet"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_fake_dataset(tmp_path / "set", rows=20)


@pytest.fixture
def words(tmp_path: Path, source: Path) -> list[object]:
    return ["convert", "lerobot", source, tmp_path / "bag", "--robot", robot_file(tmp_path)]


def edit_info(source: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = source / "meta" / "info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def edit_table(source: Path, change: Callable[[dict[str, Any]], object]) -> None:
    table = pq.read_table(source / TABLE, partitioning=None).to_pydict()
    change(table)
    pq.write_table(pa.table(table), source / TABLE)


def topics(bag: Path) -> set[str]:
    with Recording(bag) as recording:
        return {topic.name for topic in recording.topics}


def rename(info: dict[str, Any], key: str, names: list[str] | None) -> None:
    info["features"][key]["names"] = names


def test_columns_without_names_are_taken_in_order(source: Path, words: list[object], capsys: Told) -> None:
    edit_info(source, lambda info: [rename(info, key, None) for key in ("observation.state", "action")])
    error = refused(words, capsys)
    accepted([*words, *flag(error, "--in-order")], capsys)


def test_columns_that_are_not_as_many_as_joints_are_not_taken_in_order(
    source: Path, words: list[object], tmp_path: Path, capsys: Told
) -> None:
    error = refused([*words[:-1], "g1_inspire", "--in-order"], capsys)
    assert "another --robot, or without --in-order" in remedy(error)
    accepted([*words, "--in-order"], capsys)


def test_columns_of_the_state_are_named(source: Path, words: list[object], capsys: Told) -> None:
    edit_info(source, lambda info: rename(info, "observation.state", ["a", "d1", "d2"]))
    error = refused(words, capsys)
    accepted([*words, *option(error, "--state-name", COLUMN="a")], capsys)


@pytest.mark.parametrize("way", ["--action-name", "--lenient"])
def test_columns_of_the_action_are_named_or_left_out(
    way: str, source: Path, words: list[object], tmp_path: Path, capsys: Told
) -> None:
    edit_info(source, lambda info: rename(info, "action", ["a", "d1", "d2"]))
    error = refused(words, capsys)
    more = flag(error, way) if way == "--lenient" else option(error, way, COLUMN="a")
    accepted([*words, *more], capsys)
    assert ("/action" in topics(tmp_path / "bag")) is (way == "--action-name")


def test_a_column_or_a_joint_is_one_that_the_error_lists(
    source: Path, words: list[object], capsys: Told
) -> None:
    for wrong in ("gone=j0", "d0=gone"):
        error = refused([*words, "--state-name", wrong], capsys)
        flag(error, "--state-name")
        assert ("d0" if wrong.startswith("gone") else "j0") in error
    accepted([*words, "--state-name", "d0=j0"], capsys)


def test_a_camera_of_another_name_is_mapped(source: Path, tmp_path: Path, capsys: Told) -> None:
    file = robot_file(tmp_path, ("{name: cam_high,", "{name: top,"))
    words = ["convert", "lerobot", source, tmp_path / "bag", "--robot", file]
    error = refused(words, capsys)
    assert option(error, "--camera", DATASET_NAME=CAMERA) == ["--camera", f"{CAMERA}=top"]
    wrong = refused([*words, "--camera", "gone=top"], capsys)
    assert CAMERA in wrong
    flag(wrong, "--camera")
    accepted([*words, *option(error, "--camera", DATASET_NAME=CAMERA)], capsys)


def test_a_camera_of_another_size_is_changed_in_the_robot_file(
    source: Path, tmp_path: Path, capsys: Told
) -> None:
    file = robot_file(tmp_path, ("height: 48", "height: 96"))
    words = ["convert", "lerobot", source, tmp_path / "bag", "--robot", file]
    error = refused(words, capsys)
    assert str(file) in remedy(error)
    assert "64x48" in error
    robot_file(tmp_path)
    accepted(words, capsys)


def test_another_camera_stands_in_for_one_whose_video_is_missing(
    source: Path, words: list[object], capsys: Told
) -> None:
    def second(info: dict[str, Any]) -> None:
        info["features"]["observation.images.side"] = info["features"][KEY]

    edit_info(source, second)
    videos = source / "videos/chunk-000"
    shutil.move(videos / KEY, videos / "observation.images.side")
    error = refused(words, capsys)
    flag(error, "--camera")
    accepted([*words, "--camera", f"side={CAMERA}", "--camera", f"{CAMERA}=unused"], capsys)


@pytest.mark.parametrize(("factor", "unit"), [(57.29578, "deg"), (100.0 / 3.0, "percent")])
def test_units_are_those_that_the_error_says_would_fit(
    factor: float, unit: str, source: Path, words: list[object], capsys: Told
) -> None:
    def scaled(table: dict[str, Any]) -> None:
        for key in ("observation.state", "action"):
            table[key] = [[factor * value for value in row] for row in table[key]]

    edit_table(source, scaled)
    error = refused(words, capsys)
    found = re.findall(r"--unit (\w+)", remedy(error))
    assert unit in found
    accepted([*words, "--unit", unit], capsys)


def test_a_unit_of_the_action_is_stated_apart(source: Path, words: list[object], capsys: Told) -> None:
    edit_table(
        source, lambda table: table.update(action=[[57.3 * v for v in row] for row in table["action"]])
    )
    error = refused(words, capsys)
    accepted([*words, *option(error, "--action-unit")], capsys)


def test_an_episode_and_keys_are_those_that_the_error_lists(
    source: Path, words: list[object], capsys: Told
) -> None:
    error = refused([*words, "--episode", "7"], capsys)
    accepted([*words, *named(error, "--episode", 1)], capsys)


@pytest.mark.parametrize("key", ["state", "action"])
def test_features_of_other_names_are_given(key: str, source: Path, words: list[object], capsys: Told) -> None:
    usual = {"state": "observation.state", "action": "action"}[key]

    def renamed(info: dict[str, Any]) -> None:
        info["features"]["other"] = info["features"].pop(usual)

    edit_info(source, renamed)
    edit_table(source, lambda table: table.update(other=table.pop(usual)))
    more: list[object] = [] if key == "state" else ["--action-key", "gone"]
    error = refused([*words, *more], capsys)
    accepted([*words, *named(error, f"--{key}-key", "other")], capsys)


@pytest.mark.parametrize("way", ["--lenient", "meta/info.json: fps"])
def test_a_rate_that_is_wrong_is_passed_or_mended(
    way: str, source: Path, words: list[object], capsys: Told
) -> None:
    edit_info(source, lambda info: info.update(fps=20))
    error = refused(words, capsys)
    assert way in remedy(error)
    if way == "--lenient":
        accepted([*words, way], capsys)
        return
    edit_info(source, lambda info: info.update(fps=30))
    accepted(words, capsys)


def test_lenient_takes_a_video_that_is_short(source: Path, words: list[object], capsys: Told) -> None:
    path = next((source / "videos").rglob("*000000.mp4"))
    path.unlink()
    write_video(path, count=15, fps=30, height=48, width=64)
    error = refused(words, capsys)
    accepted([*words, *flag(error, "--lenient")], capsys)


def test_lenient_leaves_out_rows_that_are_not_finite(source: Path, words: list[object], capsys: Told) -> None:
    """Nothing let a NaN in the last row pass."""

    def broken(table: dict[str, Any]) -> None:
        table["observation.state"][-1] = [float("nan")] * 3

    edit_table(source, broken)
    error = refused(words, capsys)
    accepted([*words, *flag(error, "--lenient")], capsys)


@pytest.mark.parametrize("what", ["size", "names"])
def test_a_size_or_names_that_info_json_has_wrong_are_mended_there(
    what: str, source: Path, words: list[object], capsys: Told
) -> None:
    right = (source / "meta" / "info.json").read_text()

    def wrong(info: dict[str, Any]) -> None:
        if what == "size":
            info["features"][KEY]["shape"] = [48, 32, 3]
        else:
            info["features"]["action"]["names"] = ["d0"]

    edit_info(source, wrong)
    if what == "size":  # the robot file agrees with what is declared, and the video does not
        robot = Path(str(words[-1]))
        robot.write_text(robot.read_text().replace("width: 64", "width: 32"))
    error = refused(words, capsys)
    assert "meta/info.json: features" in remedy(error)
    (source / "meta" / "info.json").write_text(right)
    if what == "size":
        robot.write_text(robot.read_text().replace("width: 32", "width: 64"))
    accepted(words, capsys)


def test_a_pointer_of_git_lfs_is_replaced_by_the_file(
    source: Path, words: list[object], capsys: Told
) -> None:
    """`git lfs pull` needs a server; what it does is put the file in the pointer's place."""
    content = (source / TABLE).read_bytes()
    (source / TABLE).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    assert "git lfs pull" in remedy(refused(words, capsys))
    (source / TABLE).write_bytes(content)
    accepted(words, capsys)


# Robot files and bundles


def replay(tmp_path: Path, robot: object, policy: object = "fake") -> list[object]:
    if not (tmp_path / "recorded").exists():
        write_fake_bag(tmp_path / "recorded", robot=fake_robot(), seconds=1.0)
    number = len(list(tmp_path.glob("report*")))
    report = tmp_path / f"report{number}"
    return ["replay", tmp_path / "recorded", "--robot", robot, "--policy", policy, "--report", report]


def test_a_robot_file_is_mended_in_the_line_that_the_error_names(tmp_path: Path, capsys: Told) -> None:
    for old, new in (
        ("kind: revolute", "kind: rotary"),
        ("height: 48", "height: tall"),
        ("jerk: 100", "jerk: TODO"),
    ):
        file = robot_file(tmp_path, (old, new))
        error = refused(["info", "--robot", file], capsys)
        found = re.search(rf"change it in {re.escape(str(file))}, line (\d+)", error)
        assert found, error
        lines = file.read_text().splitlines()
        at = int(found[1]) - 1
        assert new in lines[at]
        lines[at] = lines[at].replace(new, old)
        # Every line with the fault is mended in its turn.
        while new in "\n".join(lines):
            file.write_text("\n".join(lines))
            found = re.search(r"line (\d+)$", refused(["info", "--robot", file], capsys))
            assert found
            lines[int(found[1]) - 1] = lines[int(found[1]) - 1].replace(new, old)
        file.write_text("\n".join(lines))
        accepted(["info", "--robot", file], capsys)


def test_a_robot_and_a_policy_are_among_those_that_the_error_lists(tmp_path: Path, capsys: Told) -> None:
    for words, name in (
        (["info", "--robot", "gone"], "piper"),
        (["info", "--policy", "gone"], next(iter(shipped_bundles()))),
    ):
        error = refused(words, capsys)
        assert name in error
        accepted([*words[:-1], name], capsys)


def test_a_policy_of_another_robot_is_replaced_as_the_error_says(tmp_path: Path, capsys: Told) -> None:
    file = robot_file(tmp_path)
    error = refused(replay(tmp_path, file, "state/piper_move_large_object"), capsys)
    assert "choose a policy made for this robot" in remedy(error)
    accepted(replay(tmp_path, file), capsys)


@pytest.mark.parametrize("file", ["model.safetensors", "policy.yaml", "stats.json"])
def test_a_bundle_that_is_damaged_is_copied_again(file: str, tmp_path: Path, capsys: Told) -> None:
    name = next(name for name in shipped_bundles() if name.startswith("state/"))
    good = bundle_directory(name)
    assert good is not None
    copy = tmp_path / "copy"
    shutil.copytree(good, copy)
    (copy / file).write_bytes((good / file).read_bytes()[:100])
    error = refused(["info", "--policy", copy], capsys)
    assert str(copy) in error or file in error
    shutil.copy(good / file, copy / file)
    accepted(["info", "--policy", copy], capsys)


# Evaluation and other verbs: the mended command gets to the next check, which names something else


def test_an_evaluation_gets_past_the_option_that_the_error_names(tmp_path: Path, capsys: Told) -> None:
    words = [
        "eval",
        "--task",
        "piper_move_large_object",
        "--report",
        tmp_path / "r",
        "--gate",
        tmp_path / "no.yaml",
    ]
    for policy, option_, wrong, right in (
        ("fake", "--mode", "slow", "fast"),
        ("expert", "--mode", "nodes", "fast"),
        ("fake", "--strategy", "best", "latest"),
    ):
        error = refused([*words, "--policy", policy, option_, wrong], capsys)
        assert option_ in remedy(error)
        further = refused(
            [*words, "--policy", policy, *named(error, option_, right), "--mode", "fast"], capsys
        )
        assert "no.yaml does not exist" in further


def test_a_preset_is_one_that_the_error_lists(capsys: Told) -> None:
    error = refused(["info", "--preset", "gone"], capsys)
    accepted(["info", *named(error, "--preset", "dust/tiny")], capsys)


def test_several_questions_to_info_are_asked_one_by_one(capsys: Told) -> None:
    error = refused(["info", "--robot", "piper", "--preset", "dust/tiny"], capsys)
    assert "the command line" in remedy(error)
    accepted(["info", "--robot", "piper"], capsys)
