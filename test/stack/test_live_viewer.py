# SPDX-License-Identifier: Apache-2.0
"""`wam demo --rerun`: a viewer that fails is told of, with what it said."""

from __future__ import annotations

import os
import sys
import time
import types
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels (make setup)")

from waiting import wait_until

from wam.stack.live_viewer import watched

pytestmark = pytest.mark.ros

FAILS = """
class RecordingStream:
    def __init__(self, application):
        raise RuntimeError("no viewer on this machine")
"""

WORKS = """
import sys
from unittest.mock import MagicMock

sys.modules["rerun.blueprint"] = MagicMock()


def __getattr__(name):
    return MagicMock()


class RecordingStream:
    def __init__(self, application):
        self.log = self.send_blueprint = self.flush = self.disconnect = MagicMock()

    def save(self, path):
        with open(path, "wb") as file:
            file.write(b"RRF2")
        print("opened", flush=True)
"""


def stand_in(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a module in the place of rerun, here and for processes that are started."""
    folder.mkdir()
    (folder / "rerun.py").write_text(f'__version__ = "0.41.0"\n{text}', encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setitem(sys.modules, "rerun", types.SimpleNamespace(__version__="0.41.0"))


def watch_until(said: str, target: Path, logs: Path) -> list[str]:
    """Have a viewer watch until its log holds `said`; return the warnings."""
    warnings: list[str] = []
    log = logs / "viewer.log"
    with watched(target, robot="piper", about="a demo", log_dir=logs, warn=warnings.append):
        wait_until(
            lambda: said in log.read_text(encoding="utf-8"),
            f"{said!r} in the log of the viewer",
            turn=lambda: time.sleep(0.1),
            details=lambda: log.read_text(encoding="utf-8"),
        )
    return warnings


def test_a_viewer_that_fails_is_told_with_its_last_words_and_leaves_no_empty_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody noticed, and the file that was to be written had 0 bytes."""
    stand_in(FAILS, tmp_path / "modules", monkeypatch)
    (warning,) = watch_until("no viewer on", tmp_path / "demo.rrd", tmp_path / "logs")
    assert "the rerun viewer ended with exit code" in warning
    assert warning.endswith("RuntimeError: no viewer on this machine")
    assert not (tmp_path / "demo.rrd").exists()


def test_a_viewer_that_watches_to_the_end_is_not_complained_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(WORKS, tmp_path / "modules", monkeypatch)
    assert watch_until("opened", tmp_path / "demo.rrd", tmp_path / "logs") == []
    assert (tmp_path / "demo.rrd").stat().st_size > 0
