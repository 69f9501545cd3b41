# SPDX-License-Identifier: Apache-2.0
"""`wam bench seams`: adversarial chunks through splice, chain and resampling; the emitted stream is checked.

Every chunk goes through the code of the safety node (`SafetyCycle.step`) one at a time, a few ticks of commands
follow, and an independent check takes finite differences of what was emitted. Nothing is mocked but the arm, which
follows its commands with a lag.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.bench import Announce
from wam.bench.result import Bar, BenchResult
from wam.core.chunk.action_chunk import ActionChunk
from wam.core.chunk.splice import Strategy
from wam.core.clock import NS_PER_MS
from wam.core.safety.limits import JointLimits
from wam.core.worker_pool import worker_pool
from wam.devices.loader import load_robot
from wam.robots.description import RobotDescription
from wam.runtime.safety.build import build_cycle, settings_for
from wam.runtime.safety.filters import build_chain
from wam.runtime.safety.intake import CycleSettings

Rows = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]

CHUNKS = 4_000
"""Some 30 s on two slow cores; 10^6 take hours."""
BARS = {"seams_violations": Bar(0.0), "seams_chunks_per_s": Bar(2000.0, "min")}
TOLERANCE = 1e-6
ROWS = 16
PERIOD_NS = 33_333_333
LEAST_PART, MAX_PART = 100, 5_000
PARTS = 8
"""Parts for each process: as often there is something to tell."""

MAX_TICKS = 4
BLOCK_TICKS = 4096


@dataclass(frozen=True, slots=True)
class SeamsCount:
    """What a run has counted.

    Attributes:
        chunks: chunks offered.
        accepted: chunks that were executed.
        refused: chunks that were refused.
        ticks: commands emitted.
        violations: emitted values beyond a limit of position, velocity, acceleration or jerk.
        worst: largest share of a limit of velocity, acceleration or jerk that was used.
        cpu_s: CPU time of the safety code [s].
    """

    chunks: int = 0
    accepted: int = 0
    refused: int = 0
    ticks: int = 0
    violations: int = 0
    worst: float = 0.0
    cpu_s: float = 0.0

    def __add__(self, other: SeamsCount) -> SeamsCount:
        return SeamsCount(
            self.chunks + other.chunks,
            self.accepted + other.accepted,
            self.refused + other.refused,
            self.ticks + other.ticks,
            self.violations + other.violations,
            max(self.worst, other.worst),
            self.cpu_s + other.cpu_s,
        )


class Adversary:
    """Makes chunks that no policy should make, and some that a good one would.

    Args:
        robot: whose joints to move.
        seed: of the choice.
    """

    def __init__(self, robot: RobotDescription, *, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._limits = robot.limits()
        self._names = robot.joint_names
        self._span = self._limits.upper - self._limits.lower
        self._sequence = 0
        self._generation = 1
        self._stamp_ns = 0
        self._makers: tuple[Callable[[Vector], Rows], ...] = (
            self._smooth,
            self._smooth,
            self._smooth,
            self._smooth,
            self._noisy,
            self._jump,
            self._swapped,
            self._zero_padded,
            self._far,
            self._spike,
            self._alternating,
            self._fast,
            self._edge,
            self._nan,
            self._huge,
            self._denormal,
        )

    def chunk(self, *, now_ns: int, position: Vector) -> ActionChunk:
        """Return a chunk at `now_ns` [ns] for an arm commanded to `position`, float64 [N]."""
        rng = self._rng
        rows = self._makers[rng.integers(len(self._makers))](position)
        self._sequence += 1
        names, delay_ms, period = self._names, int(rng.integers(20, 300)), PERIOD_NS
        odd = rng.random()
        sequence, generation, contract = self._sequence, self._generation, "a" * 64
        if odd < 0.02:  # stale, or from the future
            delay_ms = int(rng.choice([2000, 100_000, -500, -5000]))
        elif odd < 0.03:  # the planner was reset
            self._generation += 1
            generation = self._generation
        elif odd < 0.04:  # an overtaken chunk of the former generation
            generation = max(1, self._generation - 1)
            delay_ms += 1000
        elif odd < 0.05:
            contract = "b" * 64
        elif odd < 0.07:  # columns in another order, by name
            order = rng.permutation(len(names))
            names, rows = tuple(names[i] for i in order), rows[:, order]
        elif odd < 0.08:
            names = ("unknown", *names[1:])
        elif odd < 0.10:  # one arm only
            names, rows = names[: len(names) // 2], rows[:, : len(names) // 2]
        elif odd < 0.13:
            period = int(rng.choice([1_000_000, 10_000_000, 200_000_000]))
        elif odd < 0.16:
            rows = rows[: int(rng.integers(1, 4))]
        stamp_ns = now_ns - delay_ms * NS_PER_MS
        if odd > 0.2:  # a healthy executor's images follow each other
            stamp_ns = min(max(stamp_ns, self._stamp_ns + NS_PER_MS), now_ns)
            self._stamp_ns = stamp_ns
        return ActionChunk(
            stamp_ns=stamp_ns,
            generation=generation,
            sequence=sequence,
            contract_hash=contract,
            context_version=1,
            context_age_ns=int(rng.integers(0, 3_000)) * NS_PER_MS,
            phase_offset_rows=0,
            row_period_ns=period,
            joint_names=names,
            rows=np.ascontiguousarray(rows),
        )

    def _smooth(self, position: Vector) -> Rows:
        speed = self._rng.uniform(-0.8, 0.8, len(position)) * self._limits.velocity
        steps = np.arange(ROWS)[:, None] * (PERIOD_NS * 1e-9)
        rows: Rows = position + speed * steps * np.exp(-steps)
        return rows

    def _noisy(self, position: Vector) -> Rows:
        return self._smooth(position) + self._rng.normal(0.0, 0.02, (ROWS, len(position)))

    def _jump(self, position: Vector) -> Rows:
        return self._smooth(position + self._rng.uniform(-0.19, 0.19, len(position)))

    def _swapped(self, position: Vector) -> Rows:
        return self._smooth(position)[:, self._rng.permutation(len(position))]

    def _zero_padded(self, position: Vector) -> Rows:
        rows = self._smooth(position)
        rows[int(self._rng.integers(1, ROWS)) :] = 0.0
        return rows

    def _far(self, position: Vector) -> Rows:
        goal = self._limits.lower + self._rng.uniform(-0.2, 1.2, len(position)) * self._span
        return np.linspace(position, goal, ROWS)

    def _spike(self, position: Vector) -> Rows:
        rows = self._smooth(position)
        rows[self._rng.integers(ROWS), self._rng.integers(len(position))] += self._rng.uniform(-2.0, 2.0)
        return rows

    def _alternating(self, position: Vector) -> Rows:
        sign = np.where(np.arange(ROWS) % 2, 1.0, -1.0)[:, None]
        return position + sign * self._rng.uniform(0.0, 0.1, len(position))

    def _fast(self, position: Vector) -> Rows:
        speed = self._rng.uniform(-3.0, 3.0, len(position)) * self._limits.velocity
        return position + speed * np.arange(ROWS)[:, None] * (PERIOD_NS * 1e-9)

    def _edge(self, position: Vector) -> Rows:
        edge = np.where(self._rng.random(len(position)) < 0.5, self._limits.lower, self._limits.upper)
        step = self._limits.velocity * PERIOD_NS * 1e-9
        walk = np.arange(ROWS)[:, None] * step
        return np.where(edge > position, np.minimum(position + walk, edge + 0.1), position - walk)

    def _nan(self, position: Vector) -> Rows:
        rows = self._smooth(position)
        bad = self._rng.choice([np.nan, np.inf, -np.inf])
        rows[self._rng.integers(ROWS), self._rng.integers(len(position))] = bad
        return rows

    def _huge(self, position: Vector) -> Rows:
        factor = float(10.0 ** self._rng.uniform(1, 300))
        return self._smooth(position) * factor

    def _denormal(self, position: Vector) -> Rows:
        rows: Rows = position + np.full((ROWS, len(position)), 5e-324)
        return rows


class Judge:
    """Takes finite differences of an emitted stream, block by block; breaks where the stream restarts."""

    def __init__(self, limits: JointLimits, *, period: float) -> None:
        self._limits = limits
        self._period = period
        self._rows: list[Vector] = []
        self.violations = 0
        self.worst = 0.0
        self.ticks = 0

    def add(self, position: Vector) -> None:
        """Note an emitted row, float64 [N]."""
        self._rows.append(position)
        self.ticks += 1
        if len(self._rows) >= BLOCK_TICKS:
            self._judge(keep=3)

    def restart(self) -> None:
        """The stream restarts from the measured state."""
        self._judge(keep=0)

    def _judge(self, *, keep: int) -> None:
        if len(self._rows) > 3:
            rows, limits = np.array(self._rows), self._limits
            margin = TOLERANCE * (limits.upper - limits.lower)
            outside = (rows < limits.lower - margin) | (rows > limits.upper + margin) | ~np.isfinite(rows)
            self.violations += int(outside.sum())
            for limit in (limits.velocity, limits.acceleration, limits.jerk):
                rows = np.diff(rows, axis=0) / self._period
                share = np.abs(rows) / limit
                self.violations += int((share > 1.0 + TOLERANCE).sum())
                self.worst = max(self.worst, float(share.max()))
        self._rows = self._rows[-keep:] if keep else []


def run_part(robot_name: str, chunks: int, seed: int) -> SeamsCount:
    """Run `chunks` chunks in this process and count; strategies take turns."""
    robot = load_robot(robot_name)
    limits = robot.limits()
    rng = np.random.default_rng(seed)
    adversary = Adversary(robot, seed=seed + 1)
    count = SeamsCount()
    strategies = tuple(Strategy)
    share = max(1, -(-chunks // len(strategies)))
    for number, strategy in enumerate(strategies):
        part = min(share, chunks - number * share)
        if part <= 0:
            break
        count += _run_strategy(robot, limits, adversary, rng, settings_for(robot, strategy=strategy), part)
    return count


def _run_strategy(
    robot: RobotDescription,
    limits: JointLimits,
    adversary: Adversary,
    rng: np.random.Generator,
    settings: CycleSettings,
    chunks: int,
) -> SeamsCount:
    time_ns = [10**18]
    cycle = build_cycle(
        robot, settings, build_chain(robot, model=False), wall=lambda: time_ns[0], contract_hash="a" * 64
    )
    tick_ns = settings.tick_ns
    judge = Judge(limits, period=tick_ns * 1e-9)
    home = np.array([joint.home for joint in robot.joints])
    lagging = [home] * 6
    columns = []
    start = 0
    for group in robot.groups:
        columns.append((group.name, slice(start, start + len(group.joints))))
        start += len(group.joints)
    cpu_ns = 0
    for _ in range(chunks):
        for tick in range(1 + int(rng.integers(MAX_TICKS))):
            time_ns[0] += tick_ns
            now_ns = time_ns[0]
            measured = lagging[-6]
            chunk = adversary.chunk(now_ns=now_ns, position=lagging[-1]) if tick == 0 else None
            began = time.thread_time_ns()
            for name, part in columns:
                cycle.offer_state(name, stamp_ns=now_ns - 2 * NS_PER_MS, positions=measured[part])
            if chunk is not None:
                cycle.offer_chunk(chunk, arrival_ns=now_ns)
            if cycle.ladder.stopped:
                cycle.clear_fault()
            result = cycle.step(now_ns)
            cpu_ns += time.thread_time_ns() - began
            if result.position is None:
                judge.restart()
                continue
            judge.add(result.position)
            lagging.append(result.position)
        if len(lagging) > 512:
            del lagging[:-6]
    judge.restart()
    return SeamsCount(
        chunks,
        cycle.accepted,
        cycle.refused,
        judge.ticks,
        judge.violations,
        judge.worst,
        cpu_ns * 1e-9,
    )


def run(
    stage: Announce, *, chunks: int = CHUNKS, robot: str = "piper", workers: int | None = None
) -> BenchResult:
    """Run the benchmark over several processes and sum up.

    Args:
        stage: called with the progress.
        chunks: adversarial chunks in all.
        robot: name of the robot file.
        workers: processes; None takes one per core.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read by the workers when they import numpy
    workers = workers or len(os.sched_getaffinity(0))
    part = max(1, min(MAX_PART, max(LEAST_PART, chunks // (PARTS * workers)), -(-chunks // workers)))
    parts = [min(part, chunks - first) for first in range(0, chunks, part)]
    total = SeamsCount()
    with worker_pool(workers) as pool:
        for one in pool.map(run_part, [robot] * len(parts), parts, range(len(parts))):
            total += one
            stage(f"{total.chunks:,} of {chunks:,} chunks, {total.violations} violations")
    results = {
        "seams_chunks": float(total.chunks),
        "seams_violations": float(total.violations),
        "seams_chunks_per_s": round(total.chunks / total.cpu_s, 1),
        "seams_worst_share_of_limit": total.worst,
        "seams_accepted": float(total.accepted),
        "seams_commands": float(total.ticks),
    }
    return BenchResult(results=results, bars=BARS, notes=("chunks per second of CPU time of one core",))
