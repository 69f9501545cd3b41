# SPDX-License-Identifier: Apache-2.0
"""Each policy drives its robot: planner, executor and safety as processes, the simulated robot behind real DDS."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from wam.core.verdict import Ladder
from wam.report.imagined import imagined_section

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.slow, pytest.mark.camera]

MOVED = 0.005
"""Least motion of some joint [rad]: random weights wander, and slowly."""


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("robot", "policy"),
    [("piper", "aha_wam/random"), ("franka", "dust/random"), ("ur5e_inspire", "ud_vla/random")],
)
def test_a_tiny_policy_moves_its_robot_within_the_limits(make_rig: Any, robot: str, policy: str) -> None:
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
    if policy == "ud_vla/random":
        require_imagined(rig)


def require_imagined(rig: Any) -> None:
    """Require that both views were imagined, compared with what the cameras saw, and shown in a report."""

    def seen(recorder: Any) -> set[str]:
        return {r.imagined.camera for r in recorder.imagined.records() if r.observed is not None}

    rig.until("imagined images beside seen ones", lambda r: seen(r) == {"static", "wrist"})
    section = imagined_section(rig.recorder.imagined.records(), start_ns=rig.recorder.chunks[0].arrival_ns)
    assert section is not None
    assert sum(len(strip.pictures) for strip in section.blocks) >= 2
    shown = " ".join(strip.caption for strip in section.blocks)
    assert "camera static" in shown
    assert "camera wrist" in shown
