# SPDX-License-Identifier: Apache-2.0
"""`wam demo`: real processes over real DDS play an episode of a task, with its film and its outcome."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from waiting import HANG_S

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.camera, pytest.mark.slow]

TIMEOUT_S = 240
EXIT_NOT_WELL = 2
EXIT_INTERRUPTED = 130
NODES = {"wam_sim_node.main", "wam_safety_node.main", "wam_bringup.main"}
VIEWER = "wam.stack.live_viewer"


@pytest.mark.timeout(TIMEOUT_S)
def test_a_trained_policy_that_does_not_do_its_task_is_told_with_the_film(tmp_path: Path) -> None:
    from wam.core.contract import TrainedOn
    from wam.devices.loader import load_robot
    from wam.models.bundle import state_training
    from wam.models.robot_layout import RobotLayout
    from wam.policies.bundles import make_tiny_bundle

    task = "piper_move_large_object"
    bundle = make_tiny_bundle(tmp_path / "bundle", "aha_wam", robot=RobotLayout.of(load_robot("piper")))
    state_training(bundle, task=task, trained_on=TrainedOn("data", 60, (0, 59), "fast"))
    report = tmp_path / "report"
    words = ["demo", "piper", "--policy", str(bundle.directory), "--report", str(report)]
    done = subprocess.run(
        [sys.executable, "-m", "wam.cli.main", *words, "--seconds", "1.5", "--json"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=dict(os.environ),
    )
    assert done.returncode == EXIT_NOT_WELL, done.stderr
    shown = json.loads(done.stdout)
    assert (shown["success"], shown["score"], shown["seed"], shown["task"]) == (False, 0, 1000, task)
    assert shown["policy"] == str(bundle.directory)
    assert shown["headline"].startswith("not done: never grasped, in ")
    assert 0.0 <= shown["held_share"] <= 1.0
    assert sum(shown["held_causes"].values()) == pytest.approx(shown["held_share"])
    assert shown["problems"] == []
    assert shown["settings"]["images"] == "fast"
    assert shown["counts"]["chunks"] > 0
    assert shown["headline"] in " ".join(done.stderr.split())
    page = Path(shown["report"])
    assert page == report / "index.html"
    html = page.read_text(encoding="utf-8")
    assert html.index("data:video/mp4;base64,") < html.index("<svg")
    assert {path.name for path in (report / "logs").glob("*.log")} == {"sim.log", "safety.log", "policy.log"}


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A demo that was stopped.

    Attributes:
        code: its exit code.
        said: what it printed after Ctrl-C.
        processes: what it had started by then, and what those had started, with their command lines.
    """

    code: int
    said: str
    processes: Mapping[psutil.Process, Sequence[str]]

    def left(self) -> list[psutil.Process]:
        """Return which of its processes are still there."""
        _, alive = psutil.wait_procs(list(self.processes), timeout=HANG_S)
        return alive

    def modules(self) -> set[str]:
        """Return the modules that its processes ran."""
        return {line[line.index("-m") + 1] for line in self.processes.values() if "-m" in line}


def interrupted_at(phase: str, *words: str) -> Interrupted:
    """Run a demo, press Ctrl-C when it prints that it is in a phase, and wait for its end."""
    command = [sys.executable, "-m", "wam.cli.main", "demo", *words]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(phase):
                break
        processes = {one: one.cmdline() for one in psutil.Process(process.pid).children(recursive=True)}
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        return Interrupted(process.wait(TIMEOUT_S), said, processes)


@pytest.mark.timeout(TIMEOUT_S)
def test_ctrl_c_during_an_episode_leaves_its_report_and_no_process(tmp_path: Path) -> None:
    """It threw away the run, its film and its numbers."""
    report = tmp_path / "report"
    demo = interrupted_at("running", "piper", "--report", str(report), "--json")
    assert demo.code == EXIT_INTERRUPTED, demo.said
    assert demo.modules() == NODES
    assert demo.left() == []
    summary = json.loads((report / "summary.json").read_text(encoding="utf-8"))
    assert summary["stopped"] is True
    assert summary["headline"].startswith("stopped after ")
    assert (report / "index.html").exists()
    assert "Traceback" not in demo.said
    assert demo.said.splitlines()[-1] == "interrupted"


@pytest.mark.timeout(TIMEOUT_S)
def test_ctrl_c_while_the_nodes_start_ends_them_with_one_line_and_no_report(tmp_path: Path) -> None:
    report = tmp_path / "report"
    demo = interrupted_at("waiting for", "piper", "--report", str(report), "--json")
    assert demo.code == EXIT_INTERRUPTED, demo.said
    assert demo.processes
    assert demo.left() == []
    assert not (report / "summary.json").exists()
    assert "Traceback" not in demo.said
    assert demo.said.splitlines()[-1] == "interrupted"


@pytest.mark.timeout(TIMEOUT_S)
def test_ctrl_c_ends_the_viewer_too_and_its_file_is_whole(tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk is not installed (optional)")
    report, file = tmp_path / "report", tmp_path / "demo.rrd"
    demo = interrupted_at("running", "piper", "--report", str(report), "--json", "--rerun", str(file))
    assert demo.code == EXIT_INTERRUPTED, demo.said
    assert demo.modules() == {*NODES, VIEWER}
    assert demo.left() == []
    assert "the rerun viewer ended" not in demo.said
    assert file.stat().st_size > 0
