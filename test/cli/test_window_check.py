# SPDX-License-Identifier: Apache-2.0
"""`wam demo --viewer` asks for a window before anything is started."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from wam.cli import main as cli
from wam.cli.window_check import require_window
from wam.core.errors import MachineFault

DISPLAY = {"DISPLAY": ":7"}


class FakeProbe:
    """Answers as a probe does, and remembers what it was asked."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        self.asked: list[str] = []

    def __call__(self, name: str, environment: Mapping[str, str]) -> tuple[dict[str, Any] | None, str]:
        self.asked.append(name)
        return (None, self.reason) if self.reason else ({"opened": True}, "")


def test_without_a_display_nothing_is_tried() -> None:
    ask = FakeProbe()
    with pytest.raises(MachineFault, match="there is no display") as caught:
        require_window({}, ask=ask)
    assert "--rerun" in str(caught.value)
    assert ask.asked == []


def test_a_display_on_which_no_window_opens_is_named_with_the_reason() -> None:
    with pytest.raises(MachineFault, match=r"DISPLAY=:7 \(X11: Failed to open display\)"):
        require_window(DISPLAY, ask=FakeProbe("X11: Failed to open display"))


def test_a_display_with_windows_is_taken() -> None:
    ask = FakeProbe()
    require_window(DISPLAY, ask=ask)
    assert ask.asked == ["window"]


@pytest.mark.sim
@pytest.mark.ros
def test_a_demo_with_viewer_but_no_display_is_one_line_and_exit_code_3_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    report = tmp_path / "report"
    assert cli.run(["demo", "piper", "--viewer", "--report", str(report)]) == cli.EXIT_MACHINE
    told = capsys.readouterr().err
    assert "there is no display" in told
    assert told.count("\n") == 1
    assert not report.exists()


@pytest.mark.sim
def test_the_real_probe_says_why_no_window_opens(tmp_path: Path) -> None:
    """It was MuJoCo's own complaint of a half made object, which came after the reason."""
    nowhere = {"DISPLAY": f"{tmp_path}/no-server:0", "PATH": "/usr/bin:/bin"}
    with pytest.raises(MachineFault, match=r"\(X11: Failed to open display"):
        require_window(nowhere)
