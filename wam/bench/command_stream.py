# SPDX-License-Identifier: Apache-2.0
"""The timed safety node of `wam bench command`: `python -m wam.bench.command_stream ROBOT SECONDS PREFIX RESULT`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from wam.core.input_guard import Arrival
from wam.core.verdict import Ladder
from wam_safety_node.main import prepare_process
from wam_safety_node.node import SafetyNode

WARM_UP_S = 2.0
START_TIMEOUT_S = 40.0


class TimedSafety(SafetyNode):
    """The safety node with the time of every publication."""

    def __init__(self, robot: str) -> None:
        values = {"robot": robot, "dry_run": False, "simulated": True}
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        super().__init__(parameter_overrides=overrides)
        self.sent_ns: list[int] = []
        self.step_ns: list[int] = []
        self.received: dict[int, int] = {}
        self.swapped: dict[int, int] = {}

    def _store_chunk(self, message: Any, arrival: Arrival) -> None:
        self.received[int(message.sequence)] = time.monotonic_ns()
        super()._store_chunk(message, arrival)

    def start(self) -> None:
        """Start the command stream with its publications timed."""
        outputs = self._outputs
        assert outputs is not None
        outputs.send = self._timed(outputs.send)  # type: ignore[method-assign]
        super().start()

    def _timed(self, send: Callable[..., None]) -> Callable[..., None]:
        """Return `send` with the time at which it has published the command of every joint group."""

        def timed(*given: Any) -> None:
            send(*given)
            self.sent_ns.append(time.monotonic_ns())

        return timed

    def _step(self) -> None:
        started = time.monotonic_ns()
        super()._step()
        now = time.monotonic_ns()
        self.step_ns.append(now - started)
        executing = None if self.cycle is None else self.cycle.executing
        if executing is not None:
            self.swapped.setdefault(executing.chunk.sequence, now)


def main() -> None:
    """Run the node, wait until it is nominal, time it, write the result."""
    robot, seconds, prefix, answer = sys.argv[1], float(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    prepare_process()
    rclpy.init(args=[])
    node = TimedSafety(robot)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    for transition in (node.trigger_configure, node.trigger_activate):
        if transition() != TransitionCallbackReturn.SUCCESS:
            sys.exit(f"the safety node did not start: {node.last_error}")
    cycle = node.cycle
    assert cycle is not None
    deadline = time.monotonic() + START_TIMEOUT_S
    while cycle.ladder.rung is not Ladder.NOMINAL and time.monotonic() < deadline:
        executor.spin_once(timeout_sec=0.1)
    if cycle.ladder.rung is not Ladder.NOMINAL:
        sys.exit(f"the safety node is not nominal: {cycle.ladder.cause}")
    _spin(executor, WARM_UP_S)
    first, first_step, health = len(node.sent_ns), len(node.step_ns), node.health()
    began_ns = time.monotonic_ns()
    accepted = cycle.accepted
    _spin(executor, seconds)
    sent, steps = np.array(node.sent_ns[first:]), np.array(node.step_ns[first_step:])
    after = node.health()
    assert health is not None
    assert after is not None
    period_ns = node.period_ns
    jitter = np.abs(np.diff(sent) - period_ns) * 1e-6
    expected = round((sent[-1] - sent[0]) / period_ns) + 1
    missed = after.missed - health.missed
    # A chunk that is overtaken by the next one before its plan is begun replaces nothing.
    swaps = np.array(
        [
            swapped - node.received[sequence]
            for sequence, swapped in node.swapped.items()
            if node.received.get(sequence, 0) > began_ns
        ]
    )
    if not len(swaps):
        sys.exit("no chunk has replaced what was played")
    received = sum(at > began_ns for at in node.received.values())
    results = {
        "command_swap_p50_ms": float(np.percentile(swaps, 50)) * 1e-6,
        "command_swap_p99_ms": float(np.percentile(swaps, 99)) * 1e-6,
        "command_plan_p50_ms": cycle.planning.took.percentile(50) * 1e3,
        "command_plan_p99_ms": cycle.planning.took.percentile(99) * 1e3,
        "command_chunks_received": float(received),
        "command_jitter_p50_ms": float(np.percentile(jitter, 50)),
        "command_jitter_p99_ms": float(np.percentile(jitter, 99)),
        "command_jitter_p999_ms": float(np.percentile(jitter, 99.9)),
        "command_jitter_max_ms": float(jitter.max()),
        "command_step_p50_ms": float(np.percentile(steps, 50)) * 1e-6,
        "command_step_p99_ms": float(np.percentile(steps, 99)) * 1e-6,
        "command_sent": float(len(sent)),
        "command_rate_hz": 1e9 * (len(sent) - 1) / float(sent[-1] - sent[0]),
        "command_missed_deadlines": float(missed),
        "command_unreported_misses": float(max(0, expected - len(sent) - missed)),
        "command_chunks_accepted": float(cycle.accepted - accepted),
        "command_realtime": float(node.realtime),
    }
    answer.write_text(
        json.dumps({name.replace("command", prefix, 1): round(value, 4) for name, value in results.items()}),
        encoding="utf-8",
    )
    node.trigger_shutdown()
    node.destroy_node()
    executor.shutdown()
    rclpy.try_shutdown()


def _spin(executor: SingleThreadedExecutor, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        executor.spin_once(timeout_sec=0.1)


if __name__ == "__main__":
    main()
