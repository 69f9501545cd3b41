# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C leaves a report of what there was, or nothing; never a traceback, never a verdict on the whole."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wam.cli.main import EXIT_INTERRUPTED, run
from wam.data.fakes import write_fake_bag
from wam.devices.loader import load_robot
from wam.evaluation.replay.offline import OfflineReplay


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    write_fake_bag(tmp_path / "bag", robot=load_robot("g1_inspire"), seconds=3.0)
    options = ["--robot", "g1_inspire", "--policy", "fake", "--report", str(tmp_path / "report")]
    return ["replay", str(tmp_path / "bag"), *options]


def interrupt_after(monkeypatch: pytest.MonkeyPatch, messages: int, *, times: int = 1) -> None:
    """Send this process SIGINT when the engine has been given so many messages."""
    push: Callable[..., Iterator[Any]] = OfflineReplay.push
    seen = 0

    def counted(self: OfflineReplay, time_ns: int, deliver: Any) -> Iterator[Any]:
        nonlocal seen
        seen += 1
        if seen == messages:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
        yield from push(self, time_ns, deliver)

    monkeypatch.setattr(OfflineReplay, "push", counted)


def test_an_interrupted_replay_leaves_a_report_of_what_was_replayed(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt_after(monkeypatch, 200)
    assert run(arguments) == EXIT_INTERRUPTED
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert summary["warnings"][0].startswith("stopped after ")
    assert summary["metrics"]["chunks"] > 0
    assert "Stopped before the end" in (tmp_path / "report" / "index.html").read_text()
    captured = capsys.readouterr()
    assert captured.out.startswith("Stopped before the end")
    assert "Traceback" not in captured.err


def test_a_replay_that_is_interrupted_before_the_first_chunk_leaves_nothing(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt_after(monkeypatch, 1)
    assert run(arguments) == EXIT_INTERRUPTED
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag"]
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted"


def test_a_second_ctrl_c_ends_a_replay_at_once_and_leaves_nothing(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt_after(monkeypatch, 200, times=2)
    assert run(arguments) == EXIT_INTERRUPTED
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag"]
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted"
