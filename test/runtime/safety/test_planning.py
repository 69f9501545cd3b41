# SPDX-License-Identifier: Apache-2.0
"""Chunks become plans in a thread of its own: the command thread never waits, a late plan joins nothing."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from safety_world import ARM, World

from wam.core.chunk import ActionChunk
from wam.core.safety.chain import SafetyChain
from wam.core.safety.filters import ChainStage, Filtered
from wam.core.trajectory.motion import Motion
from wam.core.verdict import Finding, Ladder, Verdict
from wam.devices.loader import load_robot
from wam.robots.tool_speed import RateCap
from wam.runtime.safety.build import build_cycle, settings_for
from wam.runtime.safety.filters import build_chain, build_filters

MS = 1_000_000
TICK = 10 * MS
PERIOD = 33_333_333
ROBOT = load_robot("piper")
HOME = np.array([joint.home for joint in ROBOT.joints])
WAIT_S = 30.0


class Gatekeeper:
    """A filter that lets a plan through when it is told to."""

    name = "gatekeeper"
    stages = frozenset({ChainStage.PLAN})

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self.open = threading.Semaphore(0)
        self.broken = False

    def apply(self, motion: Motion, *, measured: Any) -> Filtered:
        self.reached.release()
        assert self.open.acquire(timeout=WAIT_S)
        if self.broken:
            raise ZeroDivisionError("a filter of another package")
        return Filtered(motion)


class Bench:
    """A cycle whose plans are made in a thread."""

    def __init__(self) -> None:
        self.gate = Gatekeeper()
        self.now = 10**18
        self.wall = 0
        chain = SafetyChain((*build_filters(ROBOT, model=False), self.gate))
        self.cycle = build_cycle(ROBOT, settings_for(ROBOT), chain, wall=lambda: self.wall)
        self.cycle.planning.start()
        self.sequence = 0
        self.codes: list[str] = []

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.now += TICK
            self.wall += TICK
            for name, part in (("left", slice(0, 7)), ("right", slice(7, 14))):
                self.cycle.offer_state(name, stamp_ns=self.now - MS, positions=HOME[part])
            result = self.cycle.step(self.now)
            self.codes += [event.finding.code for event in result.events]

    def chunk(self) -> None:
        self.sequence += 1
        rows = HOME + 0.01 * np.arange(16)[:, None] * (np.arange(14) == 0)
        self.cycle.offer_chunk(
            ActionChunk(
                stamp_ns=self.now - 60 * MS + self.sequence * MS,
                generation=1,
                sequence=self.sequence,
                contract_hash="a" * 64,
                context_version=1,
                context_age_ns=0,
                phase_offset_rows=0,
                row_period_ns=PERIOD,
                joint_names=ROBOT.joint_names,
                rows=rows,
            ),
            arrival_ns=self.now,
        )

    def answered(self) -> None:
        """Wait until the thread has handed over what became of a chunk."""
        assert self.cycle.planning.answered.wait(WAIT_S)


@pytest.fixture
def bench() -> Any:
    one = Bench()
    yield one
    for _ in range(8):
        one.gate.open.release()
    one.cycle.planning.stop()


def test_a_chunk_is_planned_beside_the_command_thread(bench: Bench) -> None:
    bench.tick(3)
    bench.chunk()
    assert bench.gate.reached.acquire(timeout=WAIT_S)
    bench.tick(1)
    assert bench.cycle.executing is None, "the command thread does not wait for it"
    bench.gate.open.release()
    bench.answered()
    bench.tick(2)
    assert bench.cycle.executing is not None
    assert bench.cycle.ladder.rung is Ladder.NOMINAL


def test_the_thread_that_plans_lets_the_command_thread_go_first(bench: Bench) -> None:
    """Both need the interpreter: a command waited for milliseconds while a chunk became a plan."""
    paused: list[str] = []
    turns = bench.cycle.planning.turns

    def at_work() -> bool:
        paused.append(threading.current_thread().name)
        return False

    turns.at_work = at_work  # type: ignore[method-assign]
    turns.expect(0)
    bench.gate.open.release()
    bench.tick(3)
    bench.chunk()
    bench.answered()
    assert paused, "it looks whether the command thread is due"
    assert set(paused) == {"plans"}, "and no other thread gives way"


def test_a_plan_that_is_ready_too_late_is_not_played(bench: Bench) -> None:
    """The arm has passed the point at which it begins: the plan at hand goes on."""
    bench.tick(3)
    bench.chunk()
    bench.gate.open.release()
    bench.answered()
    bench.tick(2)
    playing = bench.cycle.executing
    assert playing is not None
    bench.cycle.planning.answered.clear()
    bench.chunk()
    assert bench.gate.reached.acquire(timeout=WAIT_S)
    assert bench.gate.reached.acquire(timeout=WAIT_S)
    bench.tick(14)
    bench.gate.open.release()
    bench.answered()
    bench.tick(1)
    assert bench.cycle.plans_late == 1
    assert bench.cycle.executing is playing


def test_a_stop_while_a_plan_is_made_is_not_undone_by_it(bench: Bench) -> None:
    bench.tick(3)
    bench.chunk()
    assert bench.gate.reached.acquire(timeout=WAIT_S)
    bench.cycle.estop()
    bench.tick(1)
    bench.gate.open.release()
    bench.answered()
    bench.tick(5)
    assert bench.cycle.ladder.rung is Ladder.STOP
    assert bench.cycle.executing is None
    assert bench.cycle.standing


def test_a_filter_that_raises_is_an_error_of_the_command_thread(bench: Bench) -> None:
    """The node stops the arm for it; the thread goes on with the next chunk."""
    bench.tick(3)
    bench.gate.broken = True
    bench.chunk()
    bench.gate.open.release()
    bench.answered()
    with pytest.raises(ZeroDivisionError):
        bench.tick(1)
    bench.gate.broken = False
    bench.cycle.planning.answered.clear()
    bench.chunk()
    bench.gate.open.release()
    bench.answered()
    bench.tick(2)
    assert bench.cycle.executing is not None


def test_of_chunks_that_wait_the_newest_one_counts(bench: Bench) -> None:
    bench.tick(3)
    bench.chunk()
    assert bench.gate.reached.acquire(timeout=WAIT_S)
    for _ in range(5):
        bench.chunk()
    bench.gate.open.release()
    bench.answered()
    bench.tick(1)
    assert bench.gate.reached.acquire(timeout=WAIT_S)
    bench.gate.open.release()
    while bench.cycle.sequence != bench.sequence:
        bench.cycle.planning.answered.clear()
        bench.tick(1)
        bench.cycle.planning.answered.wait(0.05)
    assert not bench.gate.reached.acquire(blocking=False), "four of them were never planned"


def test_the_second_of_two_chunks_within_one_tick_is_planned_when_the_first_is_played(bench: Bench) -> None:
    """It was planned at once, on a motion that the first plan replaced in the next tick: the command at the seam had a
    jerk beyond the limit, the monitor refused it and the arm stopped (`command_limit`)."""
    bench.tick(3)
    bench.chunk()
    assert bench.gate.reached.acquire(timeout=WAIT_S)
    bench.gate.open.release()
    bench.answered()
    bench.cycle.planning.answered.clear()
    bench.chunk()
    assert not bench.gate.reached.acquire(timeout=0.2), "the first plan is not played yet"
    bench.tick(1)
    assert bench.gate.reached.acquire(timeout=WAIT_S)
    bench.gate.open.release()
    bench.answered()
    bench.tick(20)
    assert bench.cycle.accepted == 2
    assert bench.cycle.plans_late == 0
    assert "command_limit" not in bench.codes


@pytest.mark.parametrize("before", ["the first command", "an hour of silence"])
def test_a_chunk_that_comes_before_a_command_joins_near_its_arrival(before: str) -> None:
    """A chunk that came between activation and the first tick was joined at time zero: 401 GiB of rows."""
    cycle = build_cycle(ROBOT, settings_for(ROBOT), build_chain(ROBOT, model=False), wall=lambda: 0)
    now = 10**18

    def states() -> None:
        for name, part in (("left", slice(0, 7)), ("right", slice(7, 14))):
            cycle.offer_state(name, stamp_ns=now - MS, positions=HOME[part])

    states()
    if before == "an hour of silence":
        cycle.step(now)
        now += 3600 * 1000 * MS
        states()
    chunk = ActionChunk(
        stamp_ns=now - 50 * MS,
        generation=1,
        sequence=1,
        contract_hash="a" * 64,
        context_version=1,
        context_age_ns=0,
        phase_offset_rows=0,
        row_period_ns=PERIOD,
        joint_names=ROBOT.joint_names,
        rows=np.tile(HOME, (16, 1)),
    )
    cycle.planning.offer(chunk, now)
    answer = cycle.planning.take_answer()
    assert answer is not None
    assert answer.plan is not None, answer.findings
    assert len(answer.plan.points) < 200


class Near:
    """Speed limits of an arm that is close to something all the time."""

    def __init__(self, share: float) -> None:
        finding = Finding(Verdict.SCALED, "near_obstacle", "close", "", 0.05, 0.2)
        self._near = RateCap(share, finding) if share < 1.0 else RateCap()

    def cap(self, rows: Any, *, period_ns: int, reduced: bool = False) -> RateCap:
        return RateCap()

    def near(self, rows: Any) -> RateCap:
        return self._near


class ClosedLoop(World):
    """Rows lead on at 0.3 rad/s from where the arm was when the image was taken, 120 ms ago."""

    def rows(self, stamp_ns: int, count: int = 16) -> np.ndarray:
        start = self.stream[-12] if len(self.stream) > 12 else HOME
        return start + 0.3 * PERIOD * 1e-9 * np.arange(count)[:, None] * ARM


def test_an_arm_near_something_runs_at_the_share_of_its_speed_that_is_reported() -> None:
    """Each of three tries to plan a slower motion multiplied by the share once more: 0.2 became 0.0016."""

    def way(share: float) -> float:
        """Return how far the arm gets in half a second [rad]."""
        world = ClosedLoop()
        world.cycle.planning._intake._speeds = Near(share)
        world.step(100)
        assert world.rung < Ladder.HOLD
        return float(np.abs(world.stream[-1] - world.stream[-51]).max())

    assert way(0.2) == pytest.approx(0.2 * way(1.0), rel=0.15)
