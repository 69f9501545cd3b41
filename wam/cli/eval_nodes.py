# SPDX-License-Identifier: Apache-2.0
"""`wam eval --mode nodes`: runs the episodes with the real nodes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from wam.core.clock import ns_to_seconds
from wam.core.contract import PolicyContract
from wam.evaluation.closed_loop.options import EvalOptions
from wam.evaluation.closed_loop.player import Stopped
from wam.evaluation.closed_loop.run import Done
from wam.evaluation.closed_loop.scores import Evaluation
from wam.robots.description import RobotDescription

if TYPE_CHECKING:
    from wam.ros.command_line import ParameterValue


def evaluate_nodes(
    options: EvalOptions,
    *,
    robot: RobotDescription,
    contract: PolicyContract,
    policy_seed: int,
    device: str,
    threads: int,
    log_dir: Path,
    done: Done,
    stopped: Stopped,
) -> Evaluation:
    """Run every episode with the real nodes as processes.

    Raises:
        StackFailed: the nodes could not be started.
        MissingDependency: cameras cannot be rendered here.
    """
    from wam.ros.environment import join
    from wam.sim.rendering import require_egl

    if contract.camera_names:
        require_egl()
    join("eval", os.environ)
    # rclpy reads the environment when it is imported.
    from wam.stack.episodes import NodeEpisodes
    from wam.stack.node_specs import StackOptions

    schedule = options.schedule
    stack = StackOptions(
        robot=options.task.robot,
        policy=options.policy,
        device=device,
        threads=threads,
        seed=policy_seed,
        chunk_period=ns_to_seconds(schedule.executor_period_ns),
        plan_period=ns_to_seconds(schedule.planner_period_ns),
    )
    runner = NodeEpisodes(
        options,
        robot=robot,
        contract=contract,
        stack=stack,
        parameters=node_parameters(options),
        log_dir=log_dir,
    )
    return runner.run(done, stopped)


def node_parameters(options: EvalOptions) -> dict[str, dict[str, ParameterValue]]:
    """Return node -> the parameters that the options choose."""
    schedule = options.schedule
    sampler = ", ".join(f"{name}: {value}" for name, value in options.sampler.items())
    safety: dict[str, ParameterValue] = {"strategy": schedule.strategy.value}
    if schedule.extra_filters:
        safety["extra_filters"] = list(schedule.extra_filters)
    return {"wam_executor": {"sampler": sampler}, "wam_safety": safety}
