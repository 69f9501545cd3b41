# SPDX-License-Identifier: Apache-2.0
"""`wam replay --mode live`: creates the engine that plays a recording to the real nodes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from wam.core.clock import ns_to_seconds
from wam.core.policy import LoadedPolicy
from wam.data.bag.binding import Binding
from wam.evaluation.replay.engine import ReplayOptions
from wam.evaluation.replay.feeding import MakeEngine
from wam.robots.description import RobotDescription


def live_engine(
    options: ReplayOptions,
    *,
    robot: str,
    description: RobotDescription,
    policy: LoadedPolicy,
    device: str,
    threads: int,
    log_dir: Path,
    stopped: Callable[[], bool],
) -> MakeEngine:
    """Return the function that creates the live engine of a replay; its ROS graph is one of its own.

    Args:
        options: of the replay.
        robot: name or path of the robot file, for the nodes.
        description: the robot.
        policy: its contract.
        device: of the policy in the nodes.
        threads: CPU threads of each half.
        log_dir: where the processes write their logs.
        stopped: asked while the nodes start whether to give up.
    """
    from wam.ros.environment import join

    print(f"plays on {join('replay', os.environ)}", file=sys.stderr)
    # rclpy reads the environment when it is imported.
    from wam.ros.command_line import ParameterValue
    from wam.stack.node_specs import StackOptions
    from wam.stack.replay import LiveReplay

    settings = options.settings
    common: dict[str, ParameterValue] = {
        "device": device,
        "threads": threads,
        "imagination_error": settings.imagination,
    }
    parameters: dict[str, dict[str, ParameterValue]] = {
        "wam_planner": common,
        "wam_executor": {**common, "max_context_age": ns_to_seconds(settings.max_context_age_ns)},
        "wam_safety": {
            "strategy": settings.strategy.value,
            **({"extra_filters": list(settings.extra_filters)} if settings.extra_filters else {}),
        },
    }

    def make(binding: Binding, instruction: str) -> LiveReplay:
        stack = StackOptions(
            robot=robot,
            policy=options.policy_name,
            seed=options.seed,
            instruction=instruction,
            chunk_period=ns_to_seconds(settings.executor_period_ns),
            plan_period=ns_to_seconds(settings.planner_period_ns),
        )
        return LiveReplay(
            robot=description,
            policy=policy,
            stack=stack,
            parameters=parameters,
            binding=binding,
            log_dir=log_dir,
            instruction=instruction,
            stopped=stopped,
        )

    return make
