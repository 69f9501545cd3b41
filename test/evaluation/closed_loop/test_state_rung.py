# SPDX-License-Identifier: Apache-2.0
"""The first rung of a new task, end to end: the expert's episodes, a run of the shipped recipe, unseen seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from wam.data.lerobot.format import Version
from wam.evaluation.closed_loop.options import EvalOptions
from wam.evaluation.closed_loop.run import evaluate_fast
from wam.evaluation.replay.engine import ReplaySettings
from wam.policies.bundles import load_policy
from wam.policies.state.training.config import StateTrainConfig
from wam.policies.state.training.recipe import RECIPE
from wam.sim.recording.plan import Format, RecordPlan
from wam.sim.recording.record import record
from wam.sim.tasks.registry import find_task
from wam.sim.tasks.task import Setting
from wam.training.config_reading import read_config
from wam.training.runner import run_recipe

pytestmark = [pytest.mark.sim, pytest.mark.slow, pytest.mark.timeout(1800)]

TASK = "franka_box_to_bowl_near"
FILE = Path(__file__).parents[3] / "config" / "training" / "state_franka.yaml"


def test_a_state_policy_from_70_episodes_does_its_task_on_seeds_that_it_has_not_seen(tmp_path: Path) -> None:
    plan = RecordPlan(TASK, Setting.SEEN, 0, Format.LEROBOT, Version.V30, fps=15.0, cameras=(), truth=True)
    data = record(plan, tmp_path / "data", episodes=70, processes=1).out
    # Half of the recipe's steps: its number of successes is stated there, here it is enough that most succeed.
    words = [f"data.root={data}", f"run.out={tmp_path / 'run'}", "optim.steps=1500"]
    bundle = run_recipe(RECIPE, read_config(StateTrainConfig, FILE, words)).bundle
    assert bundle is not None
    options = EvalOptions(
        find_task(TASK),
        Setting.SEEN,
        str(bundle),
        seeds=tuple(range(1000, 1008)),
        schedule=ReplaySettings(planner_latency_ns=100_000_000, executor_latency_ns=50_000_000),
        videos=False,
    )
    found = evaluate_fast(options, load_policy(bundle))
    assert sum(one.success for one in found.episodes) >= 6, [(one.seed, one.score) for one in found.episodes]
