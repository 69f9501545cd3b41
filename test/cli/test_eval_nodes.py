# SPDX-License-Identifier: Apache-2.0
"""`wam eval --mode nodes`: real processes over real DDS play an episode of a task and are scored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.camera, pytest.mark.slow]

TIMEOUT_S = 240


def test_an_episode_is_played_by_the_real_nodes(tmp_path: Path) -> None:
    report = tmp_path / "report"
    words = ["eval", "--task", "franka_box_to_bowl", "--policy", "fake", "--report", str(report), "--json"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "wam.cli.main",
            *words,
            "--episodes",
            "1",
            "--seed",
            "5",
            "--time-limit",
            "1.5",
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    summary, timing = shown["summary"], shown["timing"]["results"]
    (episode,) = summary["episodes"]
    assert summary["mode"] == "nodes"
    assert (episode["seed"], episode["success"], episode["error"]) == (5, False, "")
    # Variant and words are those of the seed, told by the simulated robot.
    assert episode["variant"] in episode["instruction"]
    assert episode["time_s"] >= 1.5
    # A safety node that had seen the robot jump home would have latched STOP.
    assert episode["worst_rung"] != "STOP"
    assert timing["chunk_p50_ms"] > 0.0
    assert timing["prefill_p99_ms"] > 0.0
    assert {path.name for path in (report / "logs").glob("*.log")} == {"sim.log", "safety.log", "policy.log"}
    assert "data:video/mp4;base64," in (report / "index.html").read_text(encoding="utf-8")
