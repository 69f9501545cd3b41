# SPDX-License-Identifier: Apache-2.0
"""A safety cycle driven with injected time, and an arm that follows it: what an attack acts on.

The cycle is driven through its outer interface only, in the order of the safety node: states and chunks arrive, then a
step at the tick. The arm stands where it was last told to be, and what it reports lags by some ticks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import numpy.typing as npt

from wam.bench.attack.judge import StreamJudge
from wam.bench.attack.robot_file import JudgedRobot, read_judged_robot
from wam.core.chunk.action_chunk import ActionChunk
from wam.core.chunk.splice import Strategy
from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.core.ladder import finding
from wam.core.safety.chain import SafetyChain
from wam.core.safety.collision import CollisionChecker, CollisionFilter
from wam.core.safety.filters import Filter
from wam.core.verdict import Finding, Ladder, Verdict
from wam.devices.loader import load_robot
from wam.robots.description import JointKind, RobotDescription
from wam.runtime.safety.build import build_cycle, settings_for
from wam.runtime.safety.filters import build_filters

Vector = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float64]
Sense = Callable[[Vector, int], "Vector | None"]
"""True positions, float64 [N], and the number of the tick -> what the drivers report, or None: nothing."""

START_NS = 10**18
STATE_AGE_NS = 3 * NS_PER_MS
AWAY_NS = NS_PER_S
"""A driver that reports nothing for this long has been away: its arm may have been moved by hand [ns]."""

CONTRACT = "a" * 64


class Target:
    """A robot to attack: what the suite reads in its file, and what the judge reads there.

    Args:
        name: name of the robot file.
    """

    def __init__(self, name: str) -> None:
        self.robot: RobotDescription = load_robot(name)
        self.judged: JudgedRobot = read_judged_robot(self.robot.source)
        self.home = np.array([joint.home for joint in self.robot.joints])
        self.arm = np.array([joint.kind is JointKind.REVOLUTE for joint in self.robot.joints])
        """Which joints belong to an arm, bool [N]; the others are grippers and fingers."""
        self.base = build_filters(self.robot, model=False)
        """The filters that need no model; they keep no state and serve every run."""
        self.columns: dict[str, slice] = {}
        start = 0
        for group in self.robot.groups:
            self.columns[group.name] = slice(start, start + len(group.joints))
            start += len(group.joints)

    @cached_property
    def modelled(self) -> tuple[Filter, ...]:
        """All filters of the robot, those that need its model included; () where it has none.

        The checkers keep what is in contact at the seed: they serve one run after another, not two at once.
        """
        return build_filters(self.robot) if self.robot.urdf is not None else ()

    def obstacle(self, checker: CollisionChecker) -> Filter:
        """Return the suite's collision filter around `checker`."""
        return CollisionFilter(checker)


class DrivenArm:
    """One run: the cycle, the arm that follows it, and the judge of what is emitted.

    Args:
        target: the robot.
        filters: filters beside those of the chain.
        chain: filters of the robot; None takes those that need no model.
        strategy: how chunks take over.
        start: float64 [N], where the arm stands; None is home.
        lag: ticks by which reported positions are older than the last command.
        sense: what the drivers report; None is the truth.
        by_itself: the arm starts at full speed without an operator; else it is let go at the third tick, gently.
    """

    def __init__(
        self,
        target: Target,
        *,
        filters: tuple[Filter, ...] = (),
        chain: tuple[Filter, ...] | None = None,
        strategy: Strategy = Strategy.BLEND,
        start: Vector | None = None,
        lag: int = 5,
        sense: Sense | None = None,
        by_itself: bool = True,
    ) -> None:
        self._target = target
        settings = settings_for(target.robot, strategy=strategy, start_by_itself=by_itself)
        self.tick_ns = settings.tick_ns
        self._controllers = settings.controllers_play
        self.now_ns = START_NS
        self._wall_ns = NS_PER_S
        self.cycle = build_cycle(
            target.robot,
            settings,
            SafetyChain((*(target.base if chain is None else chain), *filters)),
            wall=lambda: self._wall_ns,
            contract_hash=CONTRACT,
        )
        self.position = np.array(target.home if start is None else start, dtype=np.float64)
        self.judge = StreamJudge(target.judged, period=self.tick_ns * 1e-9)
        self._past = [self.position] * (lag + 1)
        self._lag = lag
        self._sense = sense
        self._reported = self.position
        self._heard_ns = self._wall_ns
        self._commands: list[Vector] = []
        self.ticks = 0
        self._go_at = 3
        self.generation = 1
        self.sequence = 0
        self.rungs: list[Ladder] = []
        self.failures: list[str] = []
        self._sent: list[Vector] = []
        self._slept = 0

    @property
    def commands(self) -> Rows:
        """What was emitted, float64 [K, N]."""
        return np.array(self._commands).reshape(-1, len(self.position))

    @property
    def reported(self) -> Vector:
        """What the drivers reported last, float64 [N]: what a policy sees."""
        return self._reported

    def chunk(
        self,
        rows: Rows,
        *,
        delay_ns: int,
        period_ns: int,
        names: tuple[str, ...] | None = None,
        context_age_ns: int = 100 * NS_PER_MS,
    ) -> ActionChunk:
        """Return the next chunk of an executor whose observation is `delay_ns` old [ns]."""
        self.sequence += 1
        return ActionChunk(
            stamp_ns=self.now_ns - delay_ns,
            generation=self.generation,
            sequence=self.sequence,
            contract_hash=CONTRACT,
            context_version=1,
            context_age_ns=context_age_ns,
            phase_offset_rows=0,
            row_period_ns=period_ns,
            joint_names=self._target.robot.joint_names if names is None else names,
            rows=np.ascontiguousarray(rows, dtype=np.float64),
        )

    def clear(self) -> None:
        """Ask for the release of a latched STOP, and a tick later to go on where that is asked for apart."""
        self.cycle.clear_fault()
        self._go_at = self.ticks + 2

    def lose_driver(self) -> None:
        """Let the cycle know in the coming tick that nobody listens to its commands; later it is let go on."""
        self.cycle.raise_cause(finding("no_listener"), once=True)
        self.judge.away()
        self._go_at = self.ticks + 5

    def sleep(self, ticks: int) -> None:
        """Let time pass without a step: the command thread was not scheduled, the arm goes on to its last target.

        A trajectory controller goes on along what it was sent, which is judged as if it had been commanded.
        """
        if self._controllers and self._commands and not self.cycle.standing:
            ahead = self.cycle.ahead().positions
            for tick in range(self._slept + 1, self._slept + ticks + 1):
                self.position = ahead[min(tick, len(ahead) - 1)].copy()
                self._past.append(self.position)
                stopped = self.cycle.ladder.rung is Ladder.STOP
                self.judge.command(self.position, measured=self._reported, stopped=stopped)
                self._commands.append(self.position)
            self.now_ns += ticks * self.tick_ns
            self._wall_ns += ticks * self.tick_ns
            self._slept += ticks
            return
        self.now_ns += ticks * self.tick_ns
        self._wall_ns += ticks * self.tick_ns
        self._past += [self.position] * ticks
        if ticks:
            self.judge.silence()

    def step(
        self,
        chunk: ActionChunk | None = None,
        *,
        clock_ns: int | None = None,
        states: bool = True,
        phase_ns: int = 0,
    ) -> None:
        """Run one tick.

        Args:
            chunk: arrives before it.
            clock_ns: by how much the node's clock moves [ns]; None: by a tick, as wall time does.
            states: whether the drivers report.
            phase_ns: by how much earlier than the tick the chunk arrives [ns].
        """
        self.ticks += 1
        self._slept = 0
        if self.ticks == self._go_at:
            self.cycle.resume()
        self.now_ns += self.tick_ns if clock_ns is None else clock_ns
        self._wall_ns += self.tick_ns
        true = self._past[-1 - self._lag]
        reported = (true if self._sense is None else self._sense(true.copy(), self.ticks)) if states else None
        if reported is not None:
            for name, part in self._target.columns.items():
                self.cycle.offer_state(
                    name, stamp_ns=self.now_ns - STATE_AGE_NS, positions=reported[part].copy()
                )
            if np.isfinite(reported).all():
                self._reported, self._heard_ns = reported, self._wall_ns
        if self._wall_ns - self._heard_ns >= AWAY_NS:
            self.judge.away()
        if chunk is not None:
            self.cycle.offer_chunk(chunk, arrival_ns=self.now_ns - phase_ns)
        self._sent.clear()
        try:
            rung = self.cycle.step(self.now_ns, self._emit).rung
        except Exception as error:  # the node stops the arm after any fault of a cycle, and so does this
            self.failures.append(f"{type(error).__name__}: {error}")
            text = f"a command cycle failed: {error}"
            self.cycle.raise_cause(Finding(Verdict.STOP, "internal_error", text), once=True)
            rung = self.cycle.ladder.rung
        self.rungs.append(rung)
        if not self._sent:
            self.judge.silence()
        else:
            self.position = self._sent[-1]
            self.judge.command(self.position, measured=self._reported, stopped=rung is Ladder.STOP)
            self._commands.append(self.position)
        self._past.append(self.position)
        del self._past[: -max(64, self._lag + 2)]

    def _emit(self, position: Vector, _velocity: Vector) -> None:
        self._sent.append(np.array(position))
