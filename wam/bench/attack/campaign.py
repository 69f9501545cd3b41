# SPDX-License-Identifier: Apache-2.0
"""`wam bench attack`: many seeded attacks on the safety cycle of a robot, in all cores.

A case is one run against a wall, one run on the robot's geometry where it has a model, and seven streams; free runs of
the wall cases are judged as well. Every case follows from the seed and its number alone, whatever the number of jobs,
and whether the campaign is run in one go or taken up again.
"""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from wam.bench import Announce
from wam.bench.attack import contacts, streams, walls
from wam.bench.attack.arm import Target
from wam.bench.attack.judge import Violation
from wam.bench.ledger import fingerprint, open_ledger
from wam.bench.progress import RunsLeft
from wam.bench.result import Bar, BenchResult
from wam.core.worker_pool import worker_pool

CASES = 1000
ROBOT = "piper"
STREAMS = 7
"""Streams per case."""

BATCHES = {"walls": 3 * len(walls.OFFSETS), "geometry": 12, "streams": 30}
"""Runs of a kind that are handed to a process at once: some seconds; walls in multiples of those of one free run."""

JUDGED = ("core/safety", "core/trajectory", "core/chunk", "runtime/safety", "bench/attack")
"""Folders below `wam` whose code decides what a run finds."""

MEMORY_BYTES = 1 << 30
"""What a run may take beside what the imported modules have."""

WORST = 5
"""Cases that are named in the notes, for each kind of fault."""

BARS = {
    "attack_overruns": Bar(0.0),
    "attack_stream_overruns": Bar(0.0),
    "attack_limit_violations": Bar(0.0),
    "attack_contacts": Bar(0.0),
    "attack_failures": Bar(0.0),
}

TRAVEL = {"piper": 0.4555, "franka": 0.5082, "ur5e_inspire": 0.4732, "g1_arms": 0.5294}
"""Travel share of the safety layer that judged references instead of roll-outs, in the 1,112 free runs of a campaign of
10,000 walls: what a stricter one is compared with. Short campaigns scatter around it by a tenth."""

TRAVEL_KEPT = 0.94
"""Share of `TRAVEL` that has to be left."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A case that went wrong.

    Attributes:
        kind: what is wrong.
        size: how wrong, in the unit of the kind.
        text: which case, by its number, and where in it.
    """

    kind: str
    size: float
    text: str


@dataclass(frozen=True, slots=True)
class AttackCount:
    """What a part of a campaign has counted.

    Attributes:
        wall_runs: runs against a wall.
        overruns: of these, runs with a command beyond the wall.
        stream_overruns: streams with a wall and a command beyond it.
        worst_overrun: the farthest command beyond a wall [rad].
        streams: streams judged for limits, runs of every kind.
        violations: of these, streams with a violation.
        geometry_runs: runs on the geometry in which the arm moved.
        contacts: of these, runs that brought two links within their margin.
        touches: of these, runs that brought two links into each other.
        worst_depth: the deepest [m].
        travel: of the first draws of the free runs [rad].
        ideal: travel of an arm without limits and checks [rad].
        failures: streams in which a step raised an exception.
        commands: commands judged.
        tool_speed: the highest speed of a tool [m/s].
        faults: the worst cases.
    """

    wall_runs: int = 0
    overruns: int = 0
    stream_overruns: int = 0
    worst_overrun: float = 0.0
    streams: int = 0
    violations: int = 0
    geometry_runs: int = 0
    contacts: int = 0
    touches: int = 0
    worst_depth: float = 0.0
    travel: float = 0.0
    ideal: float = 0.0
    failures: int = 0
    commands: int = 0
    tool_speed: float = 0.0
    faults: tuple[Fault, ...] = field(default=())

    def __add__(self, other: AttackCount) -> AttackCount:
        faults = sorted((*self.faults, *other.faults), key=lambda one: (one.kind, -one.size))
        kept: Counter[str] = Counter()
        worst = []
        for one in faults:
            kept[one.kind] += 1
            if kept[one.kind] <= WORST:
                worst.append(one)
        return AttackCount(
            self.wall_runs + other.wall_runs,
            self.overruns + other.overruns,
            self.stream_overruns + other.stream_overruns,
            max(self.worst_overrun, other.worst_overrun),
            self.streams + other.streams,
            self.violations + other.violations,
            self.geometry_runs + other.geometry_runs,
            self.contacts + other.contacts,
            self.touches + other.touches,
            max(self.worst_depth, other.worst_depth),
            self.travel + other.travel,
            self.ideal + other.ideal,
            self.failures + other.failures,
            self.commands + other.commands,
            max(self.tool_speed, other.tool_speed),
            tuple(worst),
        )


@lru_cache(maxsize=2)
def target_of(robot: str) -> Target:
    """Return the robot called `robot`, read once per process."""
    return Target(robot)


def limit_memory() -> None:
    """Let this process take `MEMORY_BYTES` more and no more: a chunk that asks for it is a failure of one case."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def attack_walls(target: Target, seed: int, number: int, runs: int) -> AttackCount:
    """Run free run `number` and `runs` walls around its end: the first draw that travels far enough.

    The travel of the first draw of all counts, however far it gets: those that travel far are others for another safety
    layer.
    """
    rng = np.random.default_rng([seed, 0, number])
    case = walls.wall_case(target, rng)
    free = walls.run_wall(target, case)
    count = AttackCount(travel=free.travel, ideal=walls.ideal_travel(target, case))
    while free.travel < walls.LEAST_TRAVEL:
        case = walls.wall_case(target, rng)
        free = walls.run_wall(target, case)
    where = f"free run {number}"
    count += _judged(free.violations, where) + AttackCount(commands=walls.TICKS)
    sign = float(walls.direction(target)[case.joint])
    for offset in walls.offsets_for(free.travel, rng)[:runs]:
        limit = float(target.home[case.joint]) + sign * (free.travel + offset)
        run = walls.run_wall(target, case, wall=walls.HalfSpace(case.joint, limit, sign))
        text = f"{where}, wall at {limit:.4f}"
        over = run.overrun > walls.OVERRUN
        count += _judged(run.violations, text) + AttackCount(
            wall_runs=1,
            overruns=int(over),
            worst_overrun=max(run.overrun, 0.0),
            commands=walls.TICKS,
            faults=(Fault("overrun", run.overrun, text),) if over else (),
        )
    return count


def attack_geometry(target: Target, seed: int, number: int) -> AttackCount:
    """Run case `number` on the geometry: the first draw in which the arm moves."""
    rng = np.random.default_rng([seed, 1, number])
    while True:
        case = contacts.contact_case(target, rng)
        run = contacts.run_contact(target, case)
        count = _judged(run.violations, f"geometry {number}")
        if run.moved >= contacts.LEAST_TRAVEL:
            break
    depth = run.depth
    if depth is not None:
        text = f"geometry {number}, {depth.first} and {depth.second} at {depth.distance * 1e3:.1f} mm"
        count += AttackCount(
            contacts=1,
            touches=int(depth.distance < 0.0),
            worst_depth=depth.depth,
            faults=(Fault("contact", depth.depth, text),),
        )
    return count + AttackCount(geometry_runs=1, tool_speed=run.tool_speed, commands=contacts.TICKS)


def attack_stream(target: Target, seed: int, number: int) -> AttackCount:
    """Run stream `number`; a wall that it overruns counts as an overrun."""
    case = streams.stream_case(target, np.random.default_rng([seed, 2, number]))
    run = streams.run_stream(target, case)
    text = f"stream {number}"
    count = _judged(run.violations, text) + AttackCount(commands=run.commands)
    if run.overrun:
        fault = Fault("overrun", run.overrun, text)
        count += AttackCount(stream_overruns=1, worst_overrun=run.overrun, faults=(fault,))
    if run.failures:
        count += AttackCount(failures=1, faults=(Fault("failure", 0.0, f"{text}: {run.failures[0]}"),))
    return count


@dataclass(frozen=True, slots=True)
class RunBatch:
    """Runs of one kind that a process does at once.

    Attributes:
        kind: "walls", "geometry" or "streams".
        first: number of the first.
        runs: how many.
    """

    kind: str
    first: int
    runs: int

    def __str__(self) -> str:
        return f"{self.kind} {self.first} {self.runs}"


def batches_of(counts: Mapping[str, int]) -> list[RunBatch]:
    """Return the batches of a campaign, kinds mixed so that each of them advances by the same share."""
    batches = [
        RunBatch(kind, first, min(BATCHES[kind], count - first))
        for kind, count in counts.items()
        for first in range(0, count, BATCHES[kind])
    ]
    return sorted(batches, key=lambda one: one.first / counts[one.kind])


def attack_batch(robot: str, seed: int, batch: RunBatch) -> tuple[AttackCount, float]:
    """Run `batch` in this process; return what was found and the processor time that it took [s]."""
    target, began = target_of(robot), time.process_time()
    count, end = AttackCount(), batch.first + batch.runs
    if batch.kind == "walls":
        each = len(walls.OFFSETS)
        for start in range(batch.first, end, each):
            count += attack_walls(target, seed, start // each, min(each, end - start))
    else:
        attack = attack_geometry if batch.kind == "geometry" else attack_stream
        for number in range(batch.first, end):
            count += attack(target, seed, number)
    return count, time.process_time() - began


def counts_of(
    target: Target, *, cases: int | None, walls: int | None, streams: int | None, geometry: int | None
) -> dict[str, int]:
    """Return the number of runs of each kind: what is asked for, and the usual mix of `cases` where nothing is.

    Where some kinds are asked for and `cases` is not, the others are left out.
    """
    asked = {"walls": walls, "geometry": geometry, "streams": streams}
    if cases is None:
        cases = CASES if all(one is None for one in asked.values()) else 0
    mix = {"walls": cases, "geometry": cases, "streams": cases * STREAMS}
    counts = {kind: mix[kind] if one is None else one for kind, one in asked.items()}
    return counts | ({"geometry": 0} if target.judged.urdf is None else {})


def campaign_of(target: Target, seed: int) -> dict[str, str | int]:
    """Return what has to be the same for two runs of a batch to find the same: robot, seed and the code on trial."""
    root, judged = Path(__file__).parents[2], target.judged
    files = [target.robot.source, *(one for one in (judged.urdf, judged.srdf) if one is not None)]
    code = fingerprint([*(root / one for one in JUDGED), *files])
    return {"bench": "attack", "robot": target.robot.name, "seed": seed, "code": code}


def run(
    stage: Announce,
    *,
    robot: str = ROBOT,
    cases: int | None = None,
    walls: int | None = None,
    streams: int | None = None,
    geometry: int | None = None,
    seed: int = 0,
    jobs: int | None = None,
    resume: Path | None = None,
) -> BenchResult:
    """Run a campaign and sum up.

    Args:
        stage: called with the progress.
        robot: name of a robot file.
        cases: a wall run, a run on the geometry and `STREAMS` streams each; None: `CASES`, or 0 where kinds are given.
        walls: runs against a wall, instead of those of `cases`.
        streams: streams, likewise.
        geometry: runs on the geometry, likewise; none for a robot without a model.
        seed: of the campaign.
        jobs: processes; None takes one per core.
        resume: file of what is finished: what is in it is not run again.

    Raises:
        ConfigError: no such robot, or `resume` holds parts of another campaign.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read by the workers when they import numpy
    target = target_of(robot)  # an unknown robot is an error here, not in a worker
    counts = counts_of(target, cases=cases, walls=walls, streams=streams, geometry=geometry)
    batches = batches_of(counts)
    workers = jobs or len(os.sched_getaffinity(0))
    with open_ledger(resume, campaign_of(target, seed)) as ledger:
        left = [one for one in batches if str(one) not in ledger.done]
        progress = RunsLeft(counts, workers)
        for one in batches:
            if (found := ledger.done.get(str(one))) is not None:
                progress.had(one.kind, one.runs, found["seconds"])
        with worker_pool(workers, begin=limit_memory) as pool:
            waiting = {pool.submit(attack_batch, robot, seed, one): one for one in left}
            so_far = _total(ledger.done[str(one)] for one in batches if str(one) in ledger.done)
            for future in as_completed(waiting):
                one, (count, seconds) = waiting[future], future.result()
                ledger.add(str(one), {"seconds": round(seconds, 3), **asdict(count)})
                progress.ran(one.kind, one.runs, seconds)
                so_far += count
                stage(
                    f"{progress.text()}; {so_far.overruns + so_far.stream_overruns} overruns, "
                    f"{so_far.contacts} contacts, {so_far.violations} streams with a violation"
                )
        # In the order of the batches, so that sums are rounded the same whoever was first.
        total = _total(ledger.done[str(one)] for one in batches)
    return summary(total, robot=robot)


def _total(found: Iterable[Mapping[str, Any]]) -> AttackCount:
    """Return the sum of what was found in batches, as a ledger keeps it."""
    total = AttackCount()
    for one in found:
        values = {key: value for key, value in one.items() if key != "seconds"}
        total += AttackCount(**values | {"faults": tuple(Fault(**fault) for fault in one["faults"])})
    return total


def summary(total: AttackCount, *, robot: str) -> BenchResult:
    """Return the result of a campaign on `robot`."""
    share = total.travel / total.ideal if total.ideal else 0.0
    bars = dict(BARS)
    if robot in TRAVEL:
        bars["attack_travel_share"] = Bar(round(TRAVEL_KEPT * TRAVEL[robot], 3), "min")
    results = {
        "attack_wall_runs": float(total.wall_runs),
        "attack_overruns": float(total.overruns),
        "attack_stream_overruns": float(total.stream_overruns),
        "attack_worst_mrad": round(total.worst_overrun * 1e3, 3),
        "attack_streams": float(total.streams),
        "attack_limit_violations": float(total.violations),
        "attack_failures": float(total.failures),
        "attack_geometry_runs": float(total.geometry_runs),
        "attack_contacts": float(total.contacts),
        "attack_touches": float(total.touches),
        "attack_worst_depth_mm": round(total.worst_depth * 1e3, 3),
        "attack_travel_share": round(share, 4),
        "attack_commands": float(total.commands),
        "attack_tool_speed_m_per_s": round(total.tool_speed, 3),
    }
    notes = [f"{one.kind} {one.size:.4g}: {one.text}" for one in total.faults]
    if not total.geometry_runs:
        notes.insert(0, "the robot has no model: no run on its geometry")
    return BenchResult(results=results, bars=bars, notes=tuple(notes))


def _judged(violations: tuple[Violation, ...], text: str) -> AttackCount:
    """Return the count of one stream that was judged."""
    faults: dict[str, Fault] = {}
    for one in violations:
        if one.kind not in faults or one.share > faults[one.kind].size:
            faults[one.kind] = Fault(one.kind, one.share, f"{text}, command {one.tick}, {one.joint}")
    return AttackCount(streams=1, violations=int(bool(violations)), faults=tuple(faults.values()))
