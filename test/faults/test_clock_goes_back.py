# SPDX-License-Identifier: Apache-2.0
"""A clock that is set back, over real DDS: the simulation publishes /clock and is started again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from wam.core.verdict import Ladder
from wam.stack.node_specs import executor, planner, safety, sim
from wam.stack.processes import NodeSpec

pytestmark = [pytest.mark.ros, pytest.mark.sim]

LOST_NS = 500_000_000
"""By how much at least the clock goes back: the first run has moved arms, which takes longer than this."""


def on_simulated_time(spec: NodeSpec, **more: Any) -> NodeSpec:
    parameters: Mapping[str, Any] = {
        node: {**values, **(more if spec.name == "sim" else {"use_sim_time": True})}
        for node, values in spec.parameters.items()
    }
    return dataclasses.replace(spec, parameters=parameters)


def test_a_clock_that_goes_back_holds_the_arms_and_they_move_again_on_the_new_time(free_rig: Any) -> None:
    """A recording that is played again, or a simulation that is started again: stamps before those already seen."""
    rig = free_rig
    world = on_simulated_time(sim(rig.options), clock="publish")
    rig.start(world)
    rig.start(on_simulated_time(safety(rig.options)))
    rig.until_commanded()
    rig.start(on_simulated_time(planner(rig.options)))
    rig.start(on_simulated_time(executor(rig.options)))
    rig.until_moving()
    rig.until("ten chunks", lambda r: len(r.chunks) >= 10)
    age_ns = max(record.arrival_ns - record.chunk.stamp_ns for record in rig.recorder.chunks)
    rig.kill("sim")
    rig.until_rung(Ladder.HOLD)
    begun = len(rig.recorder.chunks)
    rig.start(world)
    # By the recorder's wall clock a stamp of the new time is older by the time lost; the stamps alone may soon be later
    # again than those of the old time, where the nodes take long to come back.
    older_ns = age_ns + LOST_NS
    rig.until(
        "a chunk of the new time",
        lambda r: any(c.arrival_ns - c.chunk.stamp_ns > older_ns for c in r.chunks[begun:]),
    )
    rig.until_moving()
