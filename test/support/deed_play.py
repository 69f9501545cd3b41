# SPDX-License-Identifier: Apache-2.0
"""Plays a sequence of deeds on a safety cycle and notes, tick by tick, what was to be seen.

The cycle is driven through its outer interface, on injected time, in the order of the safety node.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from deed_suite import suite_of
from deeds import (
    FAR,
    LASTING,
    LEAST,
    NEAR,
    WAIT_TICKS,
    Case,
    Deed,
    Record,
    Rows,
    Step,
    Tick,
    Vector,
)

from wam.bench.attack.contacts import geometry_of
from wam.bench.attack.rows import PERIOD_NS, RowShape, shape_rows
from wam.core.chunk import ActionChunk
from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.core.ladder import finding
from wam.core.safety.chain import SafetyChain
from wam.robots.measured_check import MeasuredCheck
from wam.robots.tool_speed import Approach, SpeedLimits
from wam.robots.zones import WorkspaceFilter, parse_box
from wam.runtime.safety.build import build_cycle, settings_for
from wam.runtime.safety.effort_guard import EffortGuard
from wam.runtime.safety.mailbox import Retreated

CONTRACT = "a" * 64
LAG = 5
CHUNK_TICKS = 8
LOOK_TICKS = 10
"""The measured arm is looked at ten times a second."""
TOLERATED = 0.01
"""So much deeper than the model allows is an arm led at the beginning of a case that begins in a contact [m]."""


class Play:
    """Plays one case.

    Args:
        case: what happens.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.suite = case, suite_of(case.robot)
        suite, self.target = self.suite, self.suite.target
        self.rng = np.random.default_rng((case.seed, 7))
        self.n, self.arm = len(self.target.home), self.target.arm
        start = self._start()
        boxes, box = self._boxes(start)
        chain = SafetyChain((*suite.filters, WorkspaceFilter(suite.points, boxes)))
        settings = settings_for(suite.robot, start_by_itself=case.by_itself)
        self.tick_ns = settings.tick_ns
        points = suite.speed_inputs.points
        assert points is not None
        speeds = SpeedLimits(
            points,
            max_speed=case.max_speed,
            approach=Approach(FAR, NEAR, LEAST) if case.approach else None,
            checker=suite.speed_inputs.checker,
        )
        self.now_ns, self.wall_ns = 10**18, NS_PER_S
        self.guard = EffortGuard(suite.robot)
        self.cycle = build_cycle(
            suite.robot,
            settings,
            chain,
            contract_hash=CONTRACT,
            speeds=speeds,
            efforts=self.guard,
            wall=lambda: self.wall_ns,
        )
        self.cycle.reduce_speed(case.reduced)
        self.check = MeasuredCheck(suite.look_checker, points, boxes=boxes)
        self._raised = ""
        self.record = Record(case, self.tick_ns * 1e-9, box=box)
        self.position = start
        self.past = [start] * (LAG + 1)
        self.reported, self.sequence = start, 0
        self.policy, self.odd, self.goal, self.speed = False, False, start, 0.3
        self.sense: tuple[Deed, float, int] | None = None
        self.stuck = start
        self.effort = self.torque = 0.5
        self.pending = False

    def run(self) -> Record:
        """Play the case, then stop for good."""
        case, cycle = self.case, self.cycle
        suite = self.suite
        held = np.where(suite.margins > 0.0, suite.margins, -TOLERATED) if case.led else suite.margins
        suite.checker.margins[:] = held
        try:
            self.tick(3)
            self._go()
            if case.led:
                self._lead_in()
            suite.checker.margins[:] = suite.margins
            self.record.known_from = len(self.record.ticks)
            for step in case.steps:
                self._do(step)
            self.policy, self.sense, self.effort, self.torque = False, None, 0.5, 0.5
            cycle.speed_scaling = 1.0
            self._await(WAIT_TICKS)
            cycle.estop(held=True)
            self.tick(200)
        finally:
            suite.checker.margins[:] = suite.margins
        return self.record

    def _start(self) -> Vector:
        """Return where the arm begins, float64 [N]: near home, free or in a contact."""
        case, judged, geometry = self.case, self.target.judged, geometry_of(self.target)
        margins = np.array([margin for _, _, margin in geometry.pairs])
        room = 0.05 * (judged.upper - judged.lower)
        while True:
            start = self.target.home + self.rng.normal(0.0, 0.2, self.n) * self.arm
            start = np.clip(start, judged.lower + room, judged.upper - room)
            if (geometry.distances(start) > margins + 0.01).all():
                break
        self.into = start
        if case.contact is None:
            return start
        fixed = margins == 0.0
        numbers = np.flatnonzero(fixed).tolist()
        while True:
            goal = start + self.rng.uniform(-1.2, 1.2, self.n) * self.arm
            goal = np.clip(goal, judged.lower + room, judged.upper - room)
            if geometry.distances(goal, numbers).min() < -case.contact - 1e-3:
                break
        low, high = 0.0, 1.0
        wanted = -case.contact
        for _ in range(30):
            middle = 0.5 * (low + high)
            near = geometry.distances(start + middle * (goal - start))
            free = near[fixed].min() > wanted and (near[~fixed] > margins[~fixed]).all()
            low, high = (middle, high) if free else (low, middle)
        self.into = start + low * (goal - start)
        return start if case.led else self.into

    def _boxes(self, start: Vector) -> tuple[tuple[Any, ...], Rows | None]:
        if not self.case.boxed:
            return (), None
        points = self.suite.points
        group = next(iter(points.tips))
        model, tip = points.model, points.tips[group]
        base = next(one.base_link for one in model.robot.groups if one.name == group)
        at = model.pose(tip.name, start, base=base or model.root)[:3, 3]
        sides = self.rng.uniform(0.05, 0.35, (2, 3)) * np.array([[-1.0], [1.0]])
        box = at + sides
        text = f"{group} " + " ".join(f"{box[0, axis]} {box[1, axis]}" for axis in range(3))
        return (parse_box(text, points),), box

    def _go(self) -> None:
        self.cycle.clear_fault()
        self.tick(1, asked=(Deed.CLEAR,))
        self.cycle.resume()
        self.tick(1, asked=(Deed.RESUME,))

    def _lead_in(self) -> None:
        """Lead the arm into what the model does not know yet, and let it come to rest."""
        self.policy, self.goal, self.speed = True, self.into, 0.5
        for _ in range(250):
            self.tick(1)
            if np.abs(self.position - self.into).max() < 1e-3:
                break
        self.policy = False
        self.tick(60)

    def _do(self, step: Step) -> None:
        deed, cycle, rng = step.deed, self.cycle, self.rng
        asked: tuple[Deed, ...] = ()
        self.policy = step.policy or deed is Deed.CHUNKS
        self.odd = deed is Deed.ODD_CHUNKS
        if deed is Deed.CHUNKS:
            self._aim(step.size)
        elif deed is Deed.ESTOP:
            cycle.estop()
            asked = (deed,)
        elif deed is Deed.CLEAR:
            cycle.clear_fault()
            asked = (deed,)
        elif deed is Deed.RESUME:
            cycle.resume()
            asked = (deed,)
        elif deed is Deed.RETREAT:
            self._retreat()
            asked = (deed,)
        elif deed is Deed.AWAIT:
            self._await(step.ticks)
            return
        elif deed is Deed.SCALING:
            cycle.speed_scaling = float(rng.choice([0.0, 0.05, 0.3, step.size, 1.0, 1.0]))
        elif deed in LASTING:
            joint = int(rng.choice(np.flatnonzero(self.arm)))
            self.sense, self.stuck = (deed, step.size, joint), self.reported
        elif deed is Deed.PUSH:
            self.effort = float(rng.choice([7.5, 8.5, 10.0, 14.0, 16.0, 25.0])) * (1.0 + 0.1 * step.size)
        elif deed is Deed.TORQUE:
            self.torque = -float(rng.choice([2.7, 3.2, 5.0, 6.5, 12.0]))
        elif deed is Deed.CAUSE:
            codes = ("estop_silent", "not_enabled", "driver_lost", "driver_unconfirmed", "executor_lost")
            cycle.raise_cause(finding(str(rng.choice(codes)), value=1.0, limit=0.2), once=True)
        self.tick(1, asked=asked)
        self.tick(step.ticks - 1)
        self.sense, self.effort, self.torque = None, 0.5, 0.5
        if deed is Deed.SCALING and rng.random() < 0.7:
            cycle.speed_scaling = 1.0

    def _aim(self, size: float) -> None:
        """Choose where the policy leads, a third of the time into something."""
        judged, geometry = self.target.judged, geometry_of(self.target)
        into = bool(self.rng.random() < 0.3)
        for _ in range(40):
            goal = self.position + self.rng.uniform(-0.6, 0.6, self.n) * (0.2 + size + into)
            fingers = judged.lower + self.rng.random(self.n) * (judged.upper - judged.lower)
            self.goal = np.clip(np.where(self.arm, goal, fingers), judged.lower, judged.upper)
            way = self.position + np.linspace(0.2, 1.0, 5)[:, None] * (self.goal - self.position)
            if any(geometry.touching(one) for one in way) == into:
                break
        self.speed = float(self.rng.uniform(0.1, 1.0)) * float(judged.velocity[self.arm].min())

    def _retreat(self) -> None:
        self.record.requests += 1
        self.pending = True
        self.cycle.retreat(self._answered)

    def _answered(self, answer: Retreated) -> None:
        self.record.answers.append((len(self.record.ticks), answer))
        self.pending = len(self.record.answers) < self.record.requests

    def _await(self, ticks: int) -> None:
        for _ in range(ticks):
            if not self.pending:
                return
            self.tick(1)

    def tick(self, count: int, *, asked: tuple[Deed, ...] = ()) -> None:
        """Let ticks pass."""
        for _ in range(count):
            self._tick(asked)

    def _tick(self, asked: tuple[Deed, ...]) -> None:
        cycle, record = self.cycle, self.record
        self.now_ns += self.tick_ns
        self.wall_ns += self.tick_ns
        heard, true_sense = self._report()
        if len(record.ticks) % LOOK_TICKS == 0:
            self._look()
        if self.policy and len(record.ticks) % CHUNK_TICKS == 0:
            cycle.offer_chunk(self._chunk(), arrival_ns=self.now_ns)
        command: Vector | None = None
        try:
            result = cycle.step(self.now_ns)
            command = None if result.position is None else result.position.copy()
        except Exception as error:  # a fault of the suite: noted, and the run goes on
            record.failures.append(f"tick {len(record.ticks)}: {type(error).__name__}: {error}")
        if command is not None:
            self.position = command
        self.past.append(self.position)
        del self.past[: -LAG - 2]
        record.ticks.append(
            Tick(
                command, cycle.ladder.rung, cycle.ladder.code, self.reported, heard, true_sense,
                abs(self.effort), abs(self.torque), asked, self.pending,
            )
        )  # fmt: skip

    def _report(self) -> tuple[bool, bool]:
        """Let drivers report; return whether numbers came, and whether they are true."""
        true = self.past[-1 - LAG]
        reported = true.copy()
        if self.sense is not None:
            deed, size, joint = self.sense
            if deed is Deed.LOST:
                return False, True
            if deed is Deed.OFFSET:
                reported[joint] += (1.0 if size > 0.5 else -1.0) * (0.1 + size)
            elif deed is Deed.STUCK:
                reported = self.stuck.copy()
            elif deed is Deed.NOISE:
                reported += self.rng.normal(0.0, 1e-4 + 5e-3 * size**3, self.n)
            elif deed is Deed.NOT_FINITE:
                reported[joint] = self.rng.choice([np.nan, np.inf])
            elif deed is Deed.SAG:
                reported[joint] += (1.0 if size > 0.5 else -1.0) * 0.12 * abs(2.0 * size - 1.0)
        efforts = np.full(self.n, 0.3)
        efforts[self.suite.effort_joint] = self.effort
        torques = np.full(self.n, 0.1)
        torques[self.suite.torque_joint] = self.torque
        stamp_ns = self.now_ns - 3 * NS_PER_MS
        for name, part in self.target.columns.items():
            self.cycle.offer_state(
                name, stamp_ns=stamp_ns, positions=reported[part].copy(), efforts=efforts[part]
            )
            self.cycle.offer_external_torque(name, torques=torques[part])
        finite = bool(np.isfinite(reported).all())
        if finite:
            self.reported = reported
        return finite, self.sense is None

    def _look(self) -> None:
        """Look at the measured arm as the node does ten times a second."""
        cycle = self.cycle
        if not cycle.seeded:
            return
        measured = cycle.measured(self.now_ns)
        if measured.stale is not None or not measured.complete:
            return
        found = self.check.look(measured.positions, cycle.recent_commands)
        if self._raised and (found is None or found.code != self._raised):
            cycle.withdraw_cause(self._raised)
            self._raised = ""
        if found is not None:
            cycle.raise_cause(found)
            self._raised = found.code

    def _chunk(self) -> ActionChunk:
        self.sequence += 1
        base = self.reported
        if self.odd:
            shapes = (
                RowShape.JUMP,
                RowShape.FAR,
                RowShape.NOISY,
                RowShape.FAST,
                RowShape.FINGERS,
                RowShape.EDGE,
            )
            shape = shapes[int(self.rng.integers(len(shapes)))]
            rows = shape_rows(
                self.target, shape, base, self.rng, size=float(self.rng.random()), period_ns=PERIOD_NS
            ).rows
        else:
            left = self.goal - base
            way = max(float(np.abs(left * self.arm).max()), 1e-6)
            along = np.minimum(np.arange(16)[:, None] * self.speed * PERIOD_NS * 1e-9 / way, 1.0)
            rows = base + left * along
        return ActionChunk(
            stamp_ns=self.now_ns - 60 * NS_PER_MS,
            generation=1,
            sequence=self.sequence,
            contract_hash=CONTRACT,
            context_version=1,
            context_age_ns=100 * NS_PER_MS,
            phase_offset_rows=0,
            row_period_ns=PERIOD_NS,
            joint_names=self.target.robot.joint_names,
            rows=np.ascontiguousarray(rows),
        )
