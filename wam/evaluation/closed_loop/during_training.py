# SPDX-License-Identifier: Apache-2.0
"""Scores a policy while it is trained: a few episodes in mode fast, without films or a report."""

from __future__ import annotations

import torch

from wam.core.clock import seconds_to_ns
from wam.core.errors import ConfigError
from wam.devices.loader import load_robot
from wam.evaluation.closed_loop.options import EvalOptions
from wam.evaluation.closed_loop.run import evaluate_fast
from wam.evaluation.replay.engine import ReplaySettings
from wam.policies.loading import load_policy
from wam.runtime.policy import PolicyRequest
from wam.runtime.schedule import SCHEDULE
from wam.sim.quality import Quality
from wam.sim.tasks.registry import find_task
from wam.sim.tasks.task import Setting
from wam.training.closed_loop import Trial, TrialOutcome


def score_bundle(trial: Trial) -> TrialOutcome:
    """Run the episodes of a trial on this process's CPU threads.

    Raises:
        WamError: the task is unknown, or bundle and robot do not fit.
    """
    task = find_task(trial.task)
    options = EvalOptions(
        task=task,
        setting=Setting.SEEN,
        policy=str(trial.bundle),
        seeds=trial.seeds,
        schedule=ReplaySettings(
            planner_latency_ns=seconds_to_ns(SCHEDULE.planner_latency),
            executor_latency_ns=seconds_to_ns(SCHEDULE.executor_latency),
        ),
        videos=False,
        quality=Quality(trial.images) if trial.images else Quality.FULL,
    )
    request = PolicyRequest(
        policy=str(trial.bundle), planner=True, executor=True, threads=torch.get_num_threads()
    )
    episodes = evaluate_fast(options, load_policy(request, robot=load_robot(task.robot))).episodes
    failed = [one for one in episodes if one.error]
    if len(failed) == len(episodes):
        raise ConfigError(
            "every episode of the evaluation in training ended in an error", value=failed[0].error
        )
    return TrialOutcome(
        episodes=len(episodes),
        successes=sum(one.success for one in episodes),
        score=sum(one.score for one in episodes) / len(episodes),
    )
