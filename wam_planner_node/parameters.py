# SPDX-License-Identifier: Apache-2.0
"""Parameters of the planner node."""

from __future__ import annotations

from dataclasses import dataclass

from wam.ros.parameters import parameter
from wam.runtime.policy import BACKENDS

TRANSPORTS = ("auto", "in_process", "shared_memory", "cuda_ipc", "inline")


@dataclass(frozen=True, slots=True)
class PlannerParameters:
    """What the planner node can be told."""

    robot: str = parameter(description="robot: a name in config/robots or the path of a YAML file")
    policy: str = parameter(
        description="policy: directory of a bundle, or a built-in name (fake, aha_wam/tiny)"
    )
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
        description="how contexts reach the executor; auto takes the cheapest both share",
        choices=TRANSPORTS,
    )
    device: str = parameter("cpu", description="device of the policy, e.g. cpu or cuda:0")
    backend: str = parameter(
        "auto",
        description="what runs the network: auto takes cuda_graph where device and policy can, else eager",
        choices=BACKENDS,
    )
    threads: int = parameter(1, description="CPU threads of the tensor library", lower=1, upper=256)
    seed: int = parameter(0, description="seed of the policy's noise", lower=0, upper=2**31 - 1)
    lock_step: bool = parameter(
        False,
        description="run on /clock and answer every time on lock_step, so that a simulation can wait for this node; "
        "needs use_sim_time",
    )
