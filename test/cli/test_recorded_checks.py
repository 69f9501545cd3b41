# SPDX-License-Identifier: Apache-2.0
"""`wam check` on recordings and data sets as labs have them: what is wrong with each is named, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from recorded_cases import FOLDER, needs_cases

from wam.cli.main import run

pytestmark = [pytest.mark.recorded, needs_cases]

CASES: dict[str, tuple[str, str, str]] = {
    "action_float64multiarray": ("warning", "action", "no action was recorded"),
    "action_two_publishers_same_width": ("note", "layout", "120 with right_1, right_2, right_3"),
    "clock_ntp_step": ("warning", "gaps", "the clock was set forward"),
    "comp_format_empty": ("note", "layout", "do not say their format"),
    "db3_wal": ("warning", "files", "bag_0.db3-wal"),
    "enc_bayer_rggb8": ("note", "layout", "bayer_rggb8"),
    "enc_yuv422_yuy2": ("note", "layout", "yuv422_yuy2"),
    "gripper_revolute": ("", "", ""),
    "image_late_2s": ("warning", "clocks", "received 2.50 s later"),
    "js_degrees": ("error", "messages", "degrees are likely"),
    "js_two_publishers": ("note", "layout", "80 with gripper"),
    "lr_action_other_names": ("error", "action", "shoulder_pan.pos"),
    "lr_dead_columns": ("warning", "cameras", "none of its 2 video files is there"),
    "lr_degrees": ("error", "columns", "7 joints leave their range"),
    "lr_lfs_pointer_table": ("error", "files", "is a Git LFS pointer"),
    "lr_start_stamp_offset": ("note", "layout", "stamps start at 0.0667 s"),
    "lr_unnamed_columns": ("error", "columns", "names no columns for observation.state"),
    "lr_v30_stale_file_index": ("warning", "layout", "its rows are in file-001.parquet"),
    "mcap_json_protobuf": ("error", "topics", "are json, and not ROS"),
    "video_ffmpeg_packet": ("error", "cameras", "no topic /cam/image_raw/compressed"),
}
"""Case -> severity and kind of the problem that was planted, and a part of its text; of `gripper_revolute`, whose
recording is sound, none."""

REMEDIES = {
    "action_float64multiarray": "--action-topic /forward_position_controller/commands",
    "lr_action_other_names": "--action-name COLUMN=",
    "lr_degrees": "--unit deg --unit gripper=mm",
    "lr_lfs_pointer_table": "git lfs pull",
    "lr_unnamed_columns": "--in-order",
    "mcap_json_protobuf": "mcap-ros2-support",
    "video_ffmpeg_packet": "--remap cam/image_raw/compressed:=/cam/image_raw/ffmpeg",
}


def checked(case: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    folder = FOLDER / case
    (what,) = [name for name in ("bag", "data", "run.mcap") if (folder / name).exists()]
    code = run(["check", str(folder / what), "--robot", str(folder / "robot.yaml"), "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("case", list(CASES))
def test_the_fault_of_a_case_is_named(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    severity, kind, text = CASES[case]
    code, report = checked(case, capsys)
    assert code == (2 if severity == "error" else 0)
    if not severity:
        assert report["problems"] == []
        return
    found = [one for one in report["problems"] if text in one["text"]]
    assert {(one["severity"], one["kind"]) for one in found} == {(severity, kind)}
    assert REMEDIES.get(case, "") in found[0]["remedy"]


@pytest.mark.parametrize("case", list(CASES))
def test_nothing_is_called_an_error_but_the_fault(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, kind, _ = CASES[case]
    _, report = checked(case, capsys)
    errors = {one["kind"] for one in report["problems"] if one["severity"] == "error"}
    # Columns without names are no action either.
    assert errors <= {kind, "action" if case == "lr_unnamed_columns" else kind}


def test_no_case_is_left_out() -> None:
    assert sorted(CASES) == sorted(case.name for case in FOLDER.iterdir())
