# SPDX-License-Identifier: Apache-2.0
"""Parameters of the executor node."""

from __future__ import annotations

from dataclasses import dataclass

from wam.ros.parameters import parameter
from wam.ros.policy_node import PolicyParameters
from wam.runtime.schedule import SCHEDULE


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorParameters(PolicyParameters):
    """Parameters of the executor node."""

    acting: bool = parameter(
        True, description="act from activation on; false waits for ~/set_acting or a task of wam_task"
    )
    period: float = parameter(
        SCHEDULE.executor_period,
        description="time between the starts of two chunks",
        unit="s",
        lower=0.005,
        upper=10.0,
    )
    max_context_age: float = parameter(
        SCHEDULE.max_context_age,
        description="a planner context with an older image is refused, as is one beyond the policy's horizon; the "
        "safety node's parameter of this name is the age that means LATE",
        unit="s",
        lower=0.01,
        upper=60.0,
    )
    context_topic: str = parameter(
        "wam_planner/context", description="topic of the planner contexts, relative"
    )
    contract_topic: str = parameter(
        "wam_planner/contract",
        description="topic of the planner's contract hash, checked at activation, relative",
    )
    imagined_camera: str = parameter(
        "",
        description="camera whose predicted image is published on ~/imagined_image; empty: all cameras of the policy, "
        "distinguished by their frame_id",
    )
    sampler: str = parameter(
        "",
        description="entries of policy.yaml's sampler section to replace, e.g. 'q: 16, action_steps: 4' "
        "(more computing per chunk) or 'steps: 2' (less)",
    )
