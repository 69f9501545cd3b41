# SPDX-License-Identifier: Apache-2.0
"""`wam eval --mode nodes`: runs the episodes with the real nodes."""

from __future__ import annotations

import os
from pathlib import Path

from wam.core.contract import PolicyContract
from wam.evaluation.closed_loop.options import EvalOptions
from wam.evaluation.closed_loop.player import Stopped
from wam.evaluation.closed_loop.run import Done
from wam.evaluation.closed_loop.scores import Evaluation
from wam.robots.description import RobotDescription


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
    from wam.ros.command_line import ParameterValue
    from wam.stack.episodes import NodeEpisodes

    policy: dict[str, ParameterValue] = {"device": device, "threads": threads}
    sampler = ", ".join(f"{name}: {value}" for name, value in options.sampler.items())
    extra = options.schedule.extra_filters
    safety: dict[str, ParameterValue] = {"extra_filters": list(extra)} if extra else {}
    runner = NodeEpisodes(
        options,
        robot=robot,
        contract=contract,
        parameters={
            "wam_planner": policy,
            "wam_executor": {**policy, "sampler": sampler},
            "wam_safety": safety,
        },
        policy_seed=policy_seed,
        log_dir=log_dir,
    )
    return runner.run(done, stopped)
