# SPDX-License-Identifier: Apache-2.0
"""The options of `wam eval --mode nodes` reach the nodes that they are for."""

from __future__ import annotations

from dataclasses import replace

from wam.cli.eval_nodes import node_parameters
from wam.core.chunk.splice import Strategy
from wam.evaluation.closed_loop.options import EvalOptions
from wam.evaluation.replay.engine import ReplaySettings
from wam.sim.tasks.registry import find_task
from wam.sim.tasks.task import Setting

OPTIONS = EvalOptions(
    find_task("franka_box_to_bowl"), Setting.SEEN, "fake", (0,), ReplaySettings(0, 0), sampler={"steps": 4}
)


def test_the_strategy_the_sampler_and_extra_filters_are_parameters_of_their_nodes() -> None:
    """The strategy did not reach the safety node, which blended, and the report named the one that was asked for."""
    schedule = replace(OPTIONS.schedule, strategy=Strategy.COMMITTED, extra_filters=("mine:make",))
    assert node_parameters(replace(OPTIONS, schedule=schedule)) == {
        "wam_executor": {"sampler": "steps: 4"},
        "wam_safety": {"strategy": "committed", "extra_filters": ["mine:make"]},
    }


def test_without_extra_filters_the_safety_node_gets_its_strategy_alone() -> None:
    assert node_parameters(OPTIONS)["wam_safety"] == {"strategy": "blend"}
