# SPDX-License-Identifier: Apache-2.0
"""Record a scripted expert, train a policy on its episodes, and score it on seeds that it has not seen; no GPU, no ROS.

The policy is of the kind `state`: joints and the simulation's ground truth in, a chunk out. At full size, about
four minutes of one core; the same with smaller numbers takes seconds and proves only that everything runs:

    python examples/train_and_evaluate.py
    python examples/train_and_evaluate.py --record 2 --steps 20 --evaluate 1 --time-limit 1 --out out/quick
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from wam.core.clock import seconds_to_ns
from wam.data.lerobot.format import Version
from wam.devices.loader import load_robot
from wam.evaluation.closed_loop.options import EvalOptions
from wam.evaluation.closed_loop.run import evaluate_fast
from wam.evaluation.closed_loop.scores import Evaluation
from wam.evaluation.replay.engine import ReplaySettings
from wam.policies.loading import load_policy
from wam.policies.state.training.config import StateTrainConfig
from wam.policies.state.training.recipe import RECIPE
from wam.report.statistics import wilson
from wam.runtime.policy import PolicyRequest
from wam.runtime.schedule import SCHEDULE
from wam.sim.quality import Quality
from wam.sim.recording.plan import Format, RecordPlan
from wam.sim.recording.record import record
from wam.sim.tasks.registry import find_task
from wam.sim.tasks.task import Setting
from wam.training.config_reading import read_config
from wam.training.runner import run_recipe

CONFIG = Path(__file__).resolve().parents[1] / "config" / "training" / "state_franka.yaml"
TASK = "franka_box_to_bowl_near"
UNSEEN = 1000
"""First seed of the evaluation, far from those of the recording."""


def record_expert(out: Path, *, episodes: int) -> Path:
    """Record successful episodes of the task's scripted expert as a LeRobot data set without images."""
    plan = RecordPlan(
        task=TASK,
        setting=Setting.SEEN,
        seed=0,
        format=Format.LEROBOT,
        version=Version.V30,
        fps=15.0,
        cameras=(),
        truth=True,
    )
    if not out.exists():
        record(plan, out, episodes=episodes)
    return out


def train(dataset: Path, out: Path, *, steps: int) -> Path:
    """Train with the shipped configuration; return the bundle."""
    settings = [f"data.root={dataset}", f"run.out={out}", f"optim.steps={steps}"]
    result = run_recipe(RECIPE, read_config(StateTrainConfig, CONFIG, settings))
    assert result.bundle is not None, "the run was stopped before its end"
    return result.bundle


def evaluate(bundle: Path, *, episodes: int, time_limit: float | None) -> Evaluation:
    """Play episodes with the nodes' own planner, executor and safety cycle, on simulated time."""
    task = find_task(TASK)
    options = EvalOptions(
        task=task,
        setting=Setting.SEEN,
        policy=str(bundle),
        seeds=tuple(range(UNSEEN, UNSEEN + episodes)),
        schedule=ReplaySettings(
            planner_latency_ns=seconds_to_ns(SCHEDULE.planner_latency),
            executor_latency_ns=seconds_to_ns(SCHEDULE.executor_latency),
        ),
        time_limit=time_limit,
        videos=False,
        quality=Quality.FULL,
    )
    request = PolicyRequest(policy=str(bundle), planner=True, executor=True)
    return evaluate_fast(options, load_policy(request, robot=load_robot(task.robot)))


def main(arguments: list[str] | None = None) -> Evaluation:
    """Record, train and evaluate; print what came of it."""
    parser = argparse.ArgumentParser(description="From a scripted expert to a scored policy.")
    parser.add_argument("--record", type=int, default=70, help="episodes of the expert")
    parser.add_argument("--steps", type=int, default=3000, help="training steps")
    parser.add_argument("--evaluate", type=int, default=20, help="episodes of the policy")
    parser.add_argument("--time-limit", type=float, help="end of such an episode [s]; default: the task's")
    parser.add_argument("--out", type=Path, default=Path("out/train_and_evaluate"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    dataset = record_expert(options.out / f"expert_{options.record}", episodes=options.record)
    bundle = train(dataset, options.out / "run", steps=options.steps)
    done = evaluate(bundle, episodes=options.evaluate, time_limit=options.time_limit)
    for episode in done.episodes:
        print(episode.line(episode.seed - UNSEEN + 1, options.evaluate))
    rate = wilson(sum(one.success for one in done.episodes), len(done.episodes))
    print(f"{bundle}: success {rate.value:.2f} (95 % interval {rate.low:.2f} to {rate.high:.2f})")
    return done


if __name__ == "__main__":
    main()
