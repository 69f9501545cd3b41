# SPDX-License-Identifier: Apache-2.0
"""`wam bench command`: jitter of the command stream, and the time from a chunk to its plan being played.

Three processes run in parallel: the real safety node (its publications are timed), a robot and executor that publish
joint states and chunks at their rates, and a busy one that multiplies matrices as inference does. Jitter of a command
= distance of its interval to the command before from the period; the node counts skipped deadlines. A swap = from the
callback of a chunk to the end of the cycle in which its plan has replaced what was played.

A second run, without the busy process, floods the node at 50 Hz with chunks of the largest size that it takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wam.bench import Announce
from wam.bench.result import Bar, BenchResult
from wam.core.errors import WamError

ROBOT = "piper"
SECONDS = 60.0
START_TIMEOUT_S = 60.0
BARS = {
    "command_jitter_p99_ms": Bar(2.0),
    "command_unreported_misses": Bar(0.0),
    "command_swap_p99_ms": Bar(10.0),
    "flood_jitter_p99_ms": Bar(2.0),
    "flood_unreported_misses": Bar(0.0),
}

LARGEST_ROWS, LARGEST_NS = 256, 5_000_000_000
"""What the safety node takes where its parameters `max_chunk_rows` and `max_chunk_time` are not set."""

LEAST_ACCEPTED = 0.5
"""Share of the chunks below which a run has measured an arm that was held."""

BUSY = "import numpy as np\na = np.random.rand(256, 256)\nwhile True: b = a @ a\n"


@dataclass(frozen=True, slots=True)
class Load:
    """What arrives at the safety node.

    Attributes:
        prefix: of the metrics.
        text: what it is.
        rows: of a chunk.
        period_ns: time between two rows [ns].
        rate: chunks per second.
        busy: whether another process saturates a core.
    """

    prefix: str
    text: str
    rows: int
    period_ns: int
    rate: float
    busy: bool


LOADS = (
    Load("command", "commands next to a busy process", 16, 33_333_333, 10.0, busy=True),
    Load(
        "flood",
        "commands while the largest legal chunks arrive",
        LARGEST_ROWS,
        LARGEST_NS // LARGEST_ROWS,
        50.0,
        busy=False,
    ),
)


def run(stage: Announce, *, seconds: float = SECONDS, robot: str = ROBOT) -> BenchResult:
    """Measure the stream for `seconds` [s] under each load.

    Raises:
        WamError: the safety node did not start, or ended by itself.
    """
    results: dict[str, float] = {}
    for load in LOADS:
        stage(f"{seconds:.0f} s of {load.text}")
        results |= _measure(load, seconds, robot)
    notes = notes_of(results)
    return BenchResult(results=results, bars=BARS, notes=notes)


def notes_of(results: Mapping[str, float]) -> tuple[str, ...]:
    """Return what has to be known to read the results: the priority, and runs in which the arm was held."""
    notes = []
    if not results["command_realtime"]:
        notes.append("SCHED_FIFO was not allowed: measured at normal priority")
    for load in LOADS:
        accepted, received = (results[f"{load.prefix}_chunks_{word}"] for word in ("accepted", "received"))
        if accepted < LEAST_ACCEPTED * received:
            notes.append(
                f"{load.prefix}: {accepted:.0f} of {received:.0f} chunks were played, the arm was held for the others: "
                "its figures are those of an arm at rest"
            )
    return tuple(notes)


def _measure(load: Load, seconds: float, robot: str) -> dict[str, float]:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    peer = (robot, str(load.rows), str(load.period_ns), str(load.rate))
    with tempfile.TemporaryDirectory(prefix="wam_bench_command") as folder:
        answer = Path(folder) / "result.json"
        commands = [
            [sys.executable, "-m", "wam.bench.command_peer", *peer],
            [
                sys.executable,
                "-m",
                "wam.bench.command_stream",
                robot,
                str(seconds),
                load.prefix,
                str(answer),
            ],
        ]
        if load.busy:
            commands.insert(0, [sys.executable, "-c", BUSY])
        processes = [subprocess.Popen(command, env=environment) for command in commands]
        try:
            deadline = time.monotonic() + seconds + START_TIMEOUT_S
            code = None
            while code is None and time.monotonic() < deadline:
                try:
                    code = processes[-1].wait(1.0)
                except subprocess.TimeoutExpired:
                    continue
            if code != 0 or not answer.is_file():
                raise WamError(
                    "the command stream produced no result", value=f"exit code {code}", where="its log above"
                )
            results: dict[str, float] = json.loads(answer.read_text(encoding="utf-8"))
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
    return results
