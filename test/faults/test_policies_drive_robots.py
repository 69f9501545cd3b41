# SPDX-License-Identifier: Apache-2.0
"""Each policy drives its robot: planner, executor and safety as processes, the simulated robot behind real DDS."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wam.core.verdict import Ladder
from wam.devices.loader import load_robot
from wam.stack.demo import recording_of
from wam.stack.demo_page import build_demo_report

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.slow, pytest.mark.camera]

MOVED = 0.005
"""Least motion of some joint [rad]: random weights wander, and slowly."""


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("robot", "policy"), [("piper", "aha_wam/tiny"), ("franka", "dust/tiny"), ("ur5e_inspire", "ud_vla/tiny")]
)
def test_a_tiny_policy_moves_its_robot_within_the_limits(
    make_rig: Any, robot: str, policy: str, tmp_path: Path
) -> None:
    rig = make_rig(robot)
    rig.options = dataclasses.replace(
        rig.options, policy=policy, composed=True, plan_period=0.5, chunk_period=0.2
    )
    rig.start_all()
    arm = next(iter(rig.recorder.measured.values()))
    start = arm.series().positions[-1]
    rig.until("the arm moves", lambda r: float(np.max(np.abs(arm.series().positions[-1] - start))) > MOVED)
    assert all(
        chunk.chunk.contract_hash == rig.recorder.chunks[0].chunk.contract_hash
        for chunk in rig.recorder.chunks
    )
    assert all(event.ladder_to is not Ladder.STOP for event in rig.recorder.safety)
    if policy == "ud_vla/tiny":
        require_imagined(rig, tmp_path)


def require_imagined(rig: Any, folder: Path) -> None:
    """Require that both views were imagined, compared with what the cameras saw, and shown in the report."""

    def seen(recorder: Any) -> set[str]:
        return {r.imagined.camera for r in recorder.imagined.records() if r.observed is not None}

    rig.until("imagined images beside seen ones", lambda r: seen(r) == {"static", "wrist"})
    recorder = rig.recorder
    now_ns = recorder.now_ns()
    robot = load_robot(rig.options.robot)
    start_ns = recorder.chunks[0].arrival_ns
    page = build_demo_report(
        recording_of(robot, rig.options, recorder, start_ns, now_ns, []), folder / "report"
    )
    html = page.read_text(encoding="utf-8")
    section = html.partition("<h2>Imagined images</h2>")[2].partition("</section>")[0]
    assert section.count('<img alt="for ') >= 2
    assert "camera static" in section
    assert "camera wrist" in section
