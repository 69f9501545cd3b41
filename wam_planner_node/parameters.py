# SPDX-License-Identifier: Apache-2.0
"""Parameters of the planner node."""

from __future__ import annotations

from dataclasses import dataclass

from wam.ros.parameters import parameter
from wam.ros.policy_node import PolicyParameters

TRANSPORTS = ("auto", "in_process", "shared_memory", "cuda_ipc", "inline")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerParameters(PolicyParameters):
    """Parameters of the planner node."""

    instruction: str = parameter("", description="first task text; empty takes the policy's own")
    period: float = parameter(
        0.0,
        description="least time between the starts of two prefills; 0 plans every new image",
        unit="s",
        lower=0.0,
        upper=60.0,
    )
    transport: str = parameter(
        "auto",
        description="how contexts reach the executor; auto takes the cheapest that both support",
        choices=TRANSPORTS,
    )
