# SPDX-License-Identifier: Apache-2.0
"""What the executor node adds to the model: from a message in a callback to the chunk on its topic.

Planner and executor run composed in this process, as in `wam_bringup`; camera and joint states come over DDS from a
process of their own. Overhead of a chunk = time to store its image + one step of the cycle with its publication -
the policy's own time (`route` and `act`). Waiting for the next period is not counted, nor is DDS itself.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter

from wam.bench import Announce
from wam.bench.result import Bar, BenchResult, percentiles
from wam.core.errors import ConfigError, MissingDependency, WamError
from wam.policies.kind import RANDOM, TINY
from wam.ros.ingest import SharedIngest

ROBOT = "piper"
IMAGE_RATE = 30.0
WARM_UP = 20
CHUNKS = 300
TIMEOUT_S = 90.0
EAGER, AUTO = "eager", "auto"
ON_THE_HOST = (EAGER, "host")
"""Backends of stages that run as they are written."""
BARS = {"chunk_overhead_p99_ms": Bar(5.0)}


def run(stage: Announce, *, policy: str = "", q: str = "") -> BenchResult:
    """Measure the overhead with the fake policy, and with `policy` its prefill and chunk times as well.

    They are those of the eager stages and, where `auto` takes another backend for one of them, of `auto`.

    Args:
        stage: called with what is being measured.
        policy: "aha_wam/random", "dust/random" or a bundle's directory; "" measures the overhead alone.
        q: for a dust policy, vision steps per action step, comma separated.

    Raises:
        WamError: the nodes did not start, or chunks stayed away.
    """
    stage(f"{CHUNKS} chunks at {IMAGE_RATE:.0f} images/s")
    overhead_ms, image_ms = _overhead()
    results = {
        **percentiles("chunk_overhead", "ms", overhead_ms),
        **percentiles("image_store", "ms", image_ms),
    }
    results["chunks"] = float(len(overhead_ms))
    if policy:
        stage(f"policy {policy}")
        results.update(_policy_times(policy))
    if q:
        results.update(_scaling(stage, policy or "dust/random", q))
    return BenchResult(results=results, bars=BARS)


def _scaling(stage: Announce, policy: str, q: str) -> dict[str, float]:
    """Return time, operations and evaluations of a dust chunk for each q, naive and cached."""
    from wam.bench.dust import bench_chunk

    try:
        factors = [int(word) for word in q.split(",")]
    except ValueError:
        raise ConfigError("--q", value=q, allowed="whole numbers, comma separated, e.g. 1,4,16") from None
    results: dict[str, float] = {}
    for row in bench_chunk(policy, qs=factors, stage=stage):
        name = f"dust_q{row.q}_{row.variant}"
        results[f"{name}_p50_ms"] = round(row.p50_ms, 3)
        results[f"{name}_gflops"] = round(row.flops / 1e9, 6)
        for kind, count in row.evaluations.items():
            results[f"{name}_evaluations_{kind}"] = float(count)
    return results


def _policy_times(policy: str) -> dict[str, float]:
    try:
        import torch

        from wam.bench.policy import measure
        from wam.policies.bundles import load_policy
    except ModuleNotFoundError as error:
        raise MissingDependency(f"{error.name} is not installed", allowed="make setup") from None
    label = "tiny" if policy.partition("/")[2] in (RANDOM, TINY) else "policy"
    found: dict[str, float] = {}
    for backend in (EAGER, AUTO):
        loaded = load_policy(policy, threads=1, backend=backend)
        if backend == AUTO and all(one.backend in ON_THE_HOST for one in loaded.stages):
            break  # what runs by default was measured already
        timing = measure(loaded)
        for name in ("prefill", "chunk"):
            found[f"{name}_{label}_{backend}_p50_ms"] = round(timing[name].p50_ms, 3)
            found[f"{name}_{label}_{backend}_min_ms"] = round(timing[name].min_ms, 3)
    return {**found, "torch_threads": float(torch.get_num_threads())}


def _overhead() -> tuple[list[float], list[float]]:
    """Return the overhead per chunk and the time to store an image [ms]."""
    from wam.runtime.policy import load_fake
    from wam_executor_node.node import ExecutorNode
    from wam_planner_node.node import PlannerNode

    overhead_ms: list[float] = []
    image_ms: list[float] = []

    class TimedExecutor(ExecutorNode):
        """The executor node with a stopwatch around its step."""

        def _step(self) -> None:
            assert self.cycle is not None
            before = self.cycle.chunks
            started = time.perf_counter_ns()
            super()._step()
            elapsed = time.perf_counter_ns() - started
            chunk = self.cycle.last_chunk
            if self.cycle.chunks > before and chunk is not None and image_ms:
                overhead_ms.append((elapsed - chunk.inference_ns) / 1e6 + image_ms[-1])

    def parameters(period: float) -> list[Parameter[Any]]:
        pairs = {"robot": ROBOT, "policy": "fake", "period": period}
        return [Parameter(name, value=value) for name, value in pairs.items()]

    rclpy.init(args=[])
    host = Node("wam_ingest")
    shared = SharedIngest(host)
    executor = TimedExecutor(
        load_policy=load_fake,
        shared_ingest=shared,
        composed=True,
        parameter_overrides=parameters(1 / IMAGE_RATE),
    )
    planner = PlannerNode(
        load_policy=load_fake,
        shared_ingest=shared,
        sink=executor.offer_context,
        parameter_overrides=parameters(0.1),
    )
    nodes: list[Any] = [host, executor, planner]
    spinner = SingleThreadedExecutor()
    streams = subprocess.Popen([sys.executable, "-m", "wam.bench.streams", ROBOT, str(IMAGE_RATE)])
    try:
        for node in nodes:
            spinner.add_node(node)
        for node in (executor, planner):
            for transition in (node.trigger_configure, node.trigger_activate):
                if transition() != TransitionCallbackReturn.SUCCESS:
                    raise WamError(f"{node.get_name()} did not start: {node.last_error}")
        _time_image_storage(executor, image_ms)
        deadline = time.monotonic() + TIMEOUT_S
        while len(overhead_ms) < WARM_UP + CHUNKS:
            if time.monotonic() > deadline:
                raise WamError(f"only {len(overhead_ms)} chunks within {TIMEOUT_S:.0f} s")
            spinner.spin_once(timeout_sec=0.1)
    finally:
        streams.terminate()
        streams.wait()
        for node in (planner, executor):
            node.trigger_shutdown()
        for node in nodes:
            node.destroy_node()
        spinner.shutdown()
        rclpy.try_shutdown()
    return overhead_ms[WARM_UP:], image_ms


def _time_image_storage(executor: Any, image_ms: list[float]) -> None:
    stream = executor._ingest.stream
    store = stream.put_image

    def timed(*args: Any, **named: Any) -> None:
        started = time.perf_counter_ns()
        store(*args, **named)
        image_ms.append((time.perf_counter_ns() - started) / 1e6)

    stream.put_image = timed
