# SPDX-License-Identifier: Apache-2.0
"""`--rerun` writes a file for the viewer, and names what is missing before anything is done."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from wam.cli.main import run
from wam.data.fakes import write_fake_bag
from wam.devices.loader import load_robot


def arguments(tmp_path: Path) -> list[str]:
    write_fake_bag(tmp_path / "bag", robot=load_robot("g1_inspire"), seconds=1.0)
    options = ["--robot", "g1_inspire", "--policy", "fake", "--report", str(tmp_path / "report")]
    return ["replay", str(tmp_path / "bag"), *options, "--rerun", str(tmp_path / "out.rrd")]


def test_without_rerun_the_remedy_is_told_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert run(arguments(tmp_path)) == 1
    assert "which is not installed: pip install rerun-sdk" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()
    assert not (tmp_path / "out.rrd").exists()


def test_with_rerun_the_file_holds_joints_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk is not installed (optional)")
    assert run(arguments(tmp_path)) == 0
    content = (tmp_path / "out.rrd").read_bytes()
    assert content.startswith(b"RRF")
    assert len(content) > 10_000
