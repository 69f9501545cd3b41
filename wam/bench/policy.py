# SPDX-License-Identifier: Apache-2.0
"""How long one prefill and one chunk take, through the seams that the nodes use.

A chunk is timed from images in host memory to action rows in host memory: composing, VAE, routing, denoising.
A prefill is timed from images to the planner context. Every call sees a new image.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wam.core.context import PlannerContext
from wam.core.contract import PolicyContract
from wam.core.observation import CameraFrame, EnvironmentState, Instruction, Observation, RobotState
from wam.core.policy import LoadedPolicy
from wam.policies.bundles import load_policy

REPEATS = 60
WARM_UP = 8
IMAGE_SIZE = (480, 640)


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations of repeated calls [ms].

    Attributes:
        p50_ms: median.
        p95_ms: 95th percentile.
        min_ms: shortest.
        count: calls after warm-up.
    """

    p50_ms: float
    p95_ms: float
    min_ms: float
    count: int

    @staticmethod
    def of(durations_ns: list[int]) -> Timing:
        """Summarise durations [ns]."""
        ordered = sorted(d / 1e6 for d in durations_ns)
        return Timing(
            p50_ms=statistics.median(ordered),
            p95_ms=ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))],
            min_ms=ordered[0],
            count=len(ordered),
        )


def synthetic_observation(contract: PolicyContract, *, stamp_ns: int, seed: int) -> Observation:
    """Return an observation with random images, a still robot and, where it is needed, ground truth of zeros.

    Args:
        contract: names cameras and joints.
        stamp_ns: of everything in it [ns].
        seed: of the images.
    """
    rng = np.random.default_rng(seed)
    frames = {
        name: CameraFrame(name, stamp_ns, rng.integers(0, 256, (*IMAGE_SIZE, 3), dtype=np.uint8))
        for name in contract.camera_names
    }
    joints = contract.state_joints
    state = RobotState(stamp_ns, joints, np.zeros(len(joints)), np.zeros(len(joints)))
    truth = EnvironmentState(stamp_ns, contract.environment, np.zeros(len(contract.environment)))
    return Observation(stamp_ns, frames, state, truth if contract.environment else None)


def measure(
    policy: LoadedPolicy, *, repeats: int = REPEATS, warm_up: int = WARM_UP, planner_every_rows: int = 64
) -> dict[str, Timing]:
    """Time a loaded policy.

    Args:
        policy: with both halves.
        repeats: timed calls.
        warm_up: calls before them.
        planner_every_rows: control rows between two prefills; at the default the rolling memory fills up
            during warm-up.

    Returns:
        "prefill" and "chunk".
    """
    if policy.planner is None or policy.executor is None:
        raise ValueError("both halves of the policy are needed to time it")
    contract = policy.contract
    instruction = Instruction(contract.instruction)
    prefill_ns: list[int] = []
    chunk_ns: list[int] = []
    context: PlannerContext[Any]
    for i in range(warm_up + repeats):
        stamp = i * planner_every_rows * contract.control_period_ns
        seen = synthetic_observation(contract, stamp_ns=stamp, seed=2 * i)
        began = time.perf_counter_ns()
        context = policy.planner.plan(seen, instruction=instruction)
        prefill_ns.append(time.perf_counter_ns() - began)
        now = synthetic_observation(contract, stamp_ns=stamp + contract.control_period_ns, seed=2 * i + 1)
        began = time.perf_counter_ns()
        routed = policy.executor.route(now, context=context)
        policy.executor.act(routed, proprio=now.state)
        chunk_ns.append(time.perf_counter_ns() - began)
    return {"prefill": Timing.of(prefill_ns[warm_up:]), "chunk": Timing.of(chunk_ns[warm_up:])}


def bench_chunk(
    policy: str | Path = "aha_wam/random",
    *,
    device: str = "cpu",
    threads: int = 1,
    steps: int | None = None,
    repeats: int = REPEATS,
    backend: str = "auto",
) -> dict[str, Timing]:
    """Load a policy and time it; see `measure`."""
    loaded = load_policy(policy, device=device, threads=threads, steps=steps, backend=backend)
    return measure(loaded, repeats=repeats)


def headline(repeats: int = REPEATS) -> dict[str, float]:
    """Return the figures of the tiny policy that are tracked from commit to commit, one CPU thread, eager."""
    timings = bench_chunk(repeats=repeats, backend="eager")
    return {
        "prefill_tiny_eager_p50_ms": timings["prefill"].p50_ms,
        "chunk_tiny_eager_p50_ms": timings["chunk"].p50_ms,
    }
