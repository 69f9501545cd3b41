# SPDX-License-Identifier: Apache-2.0
"""Judges a stream of emitted commands: limits by its own differences, restarts, and motion under STOP.

Shares no code with the safety chain. What it is told of a tick is what a driver sees (a command or silence), what the
sensors said, and the rung; never why.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.bench.attack.robot_file import JudgedRobot

Vector = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

TOLERANCE = 1e-6
"""Share of a limit, or of a range, that rounding may take."""

STILL_SHARE = 1e-3
"""A joint slower than this share of its velocity limit is at rest."""

DRIFT_TIME = 1e-3
"""Under STOP a joint that has come to rest may creep by what its velocity limit covers in this time [s]."""

ORDERS = ("velocity", "acceleration", "jerk")

ENVELOPE_TOLERANCE = 1e-3
"""Share of a joint's velocity limit by which the position-dependent limit may be exceeded: it is a square root, and
at its end the position of a tick decides within a tick."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that a stream must not do.

    Attributes:
        kind: "position", "velocity", "envelope", "acceleration", "jerk", "not_finite", "start" (a stream that does
            not begin where the arm is), "restart" (one that does not go on where it was), "moves_under_stop",
            "late_rest".
        tick: number of the command, from 0.
        joint: the worst joint.
        share: measured value as a share of what is allowed; for "position" the distance outside [rad or m].
    """

    kind: str
    tick: int
    joint: str
    share: float


class StreamJudge:
    """Judges one stream of commands at a fixed tick.

    Differences are taken over consecutive commands, as a driver without interpolation receives them. The arm begins at
    rest. After a silence the stream goes on from the last command, either with the motion it had or from rest there;
    only where the driver was away (`away`) may it begin anew where the arm is measured.

    Commands are kept as they come and judged when somebody asks for what was found: the same differences, taken over
    all commands between two interruptions at once.

    Args:
        robot: its limits.
        period: time between two commands [s].
    """

    def __init__(self, robot: JudgedRobot, *, period: float) -> None:
        self._robot = robot
        self._period = period
        # What the differences may be taken over: more than one after a silence, until the stream has shown which.
        self._histories: list[list[Vector]] = []
        self._silent = False
        self._away = True
        self._lower, self._upper = robot.lower.copy(), robot.upper.copy()
        self._stop_ticks = -1
        self._rested_at: Vector | None = None
        self._stop_travel = np.zeros(len(robot.names))
        # A joint at full speed and full acceleration can be at rest after V / A + A / J. A stop that keeps the path
        # lasts as long as the slowest joint needs, and a finger goes on along it meanwhile.
        self._rest_time = float((robot.velocity / robot.acceleration + robot.acceleration / robot.jerk).max())
        self._limits = np.stack([robot.velocity, robot.acceleration, robot.jerk])[:, None]
        self._margin = TOLERANCE * (robot.upper - robot.lower)
        self._waiting: list[tuple[Vector, Vector, bool, bool, bool]] = []
        self._heard_silence = self._heard_away = False
        self._violations: list[Violation] = []
        self._worst_share = 0.0
        self._ticks = 0
        self._begins: list[int] = []

    @property
    def violations(self) -> list[Violation]:
        """What the commands so far have violated, in their order."""
        self._judge()
        return self._violations

    @property
    def worst_share(self) -> float:
        """Largest share of a limit of velocity, acceleration or jerk so far."""
        self._judge()
        return self._worst_share

    @property
    def ticks(self) -> int:
        """Finite commands so far."""
        self._judge()
        return self._ticks

    @property
    def begins(self) -> list[int]:
        """Commands with which the stream began, or began anew where the arm was measured."""
        self._judge()
        return self._begins

    def away(self) -> None:
        """Note that the driver was away: the stream may begin anew at the measured position."""
        self._heard_away = True

    def silence(self) -> None:
        """Note that nothing was commanded in a tick, or that the sender slept through one."""
        self._heard_silence = True

    def command(self, position: Vector, *, measured: Vector, stopped: bool) -> None:
        """Take the next command.

        Args:
            position: float64 [N].
            measured: float64 [N], newest measured position that was offered.
            stopped: whether STOP is latched.
        """
        position, measured = np.array(position, dtype=np.float64), np.array(measured, dtype=np.float64)
        self._waiting.append((position, measured, stopped, self._heard_silence, self._heard_away))
        self._heard_silence = self._heard_away = False

    def _judge(self) -> None:
        """Judge the commands that wait, one by one only where the stream begins or was interrupted."""
        if not self._waiting:
            return
        heard, self._waiting = self._waiting, []
        rows = np.array([one[0] for one in heard])
        stopped = np.array([one[2] for one in heard])
        finite = np.isfinite(rows).all(axis=1)
        plain = finite & ~np.array([one[3] or one[4] for one in heard])
        first = 0
        while first < len(rows):
            _, measured, _, silent, away = heard[first]
            self._silent |= silent
            self._away |= away
            if not finite[first]:
                self._note("not_finite", int(np.argmax(~np.isfinite(rows[first]))), np.inf)
                self._silent = True
                first += 1
                continue
            end = first + 1
            if self._silent or self._away or len(self._histories) != 1:
                self._join(rows[first], measured)
            else:
                self._narrow(self._histories[0][-1])
                others = ~plain[end:]
                end += int(others.argmax()) if others.any() else len(others)
            self._block(rows[first:end], stopped[first:end])
            self._silent = self._away = False
            first = end

    def _block(self, rows: Rows, stopped: Flags) -> None:
        """Judge `rows`, float64 [K, N], that go on from the first history without an interruption between them."""
        robot, first, count = self._robot, len(self._violations), len(rows)
        before = np.concatenate([self._histories[0], rows])
        shares, velocities = self._shares(before)
        self._worst_share = max(self._worst_share, float(np.fmax.reduce(shares, axis=None)))
        lowers = np.maximum.accumulate(np.concatenate([self._lower[None], rows]))
        uppers = np.minimum.accumulate(np.concatenate([self._upper[None], rows]))
        lowers, uppers = np.minimum(robot.lower, lowers[:count]), np.maximum(robot.upper, uppers[:count])
        self._lower, self._upper = lowers[-1], uppers[-1]
        outside = np.maximum(lowers - self._margin - rows, rows - uppers - self._margin)
        over = np.abs(velocities) - self._allowed(rows, velocities)
        beyond: Flags = np.logical_or.reduce(over > ENVELOPE_TOLERANCE * robot.velocity, axis=1)
        above: Flags = np.logical_or.reduce(shares > 1.0 + TOLERANCE, axis=2)
        wrong = (outside > 0.0).any(axis=1) | above.any(axis=0) | beyond
        for row in np.flatnonzero(wrong).tolist():
            if (outside[row] > 0.0).any():
                self._note("position", int(outside[row].argmax()), float(outside[row].max()), after=row)
            for word, share, found in zip(ORDERS, shares[:, row], above[:, row], strict=True):
                if found:
                    self._note(word, int(share.argmax()), float(share.max()), after=row)
            if beyond[row]:
                share = 1.0 + over[row] / robot.velocity
                self._note("envelope", int(share.argmax()), float(share.max()), after=row)
        self._stops(rows, np.abs(np.diff(before[1:], axis=0)), stopped)
        self._violations[first:] = sorted(self._violations[first:], key=lambda one: one.tick)
        self._go_on(rows)
        self._ticks += count

    def _go_on(self, rows: Rows) -> None:
        """Add `rows` to the histories, and keep one of those that have become the same."""
        kept: list[list[Vector]] = []
        for history in self._histories:
            longer = [*history, *rows[-3:]][-3:]
            if not any(np.array_equal(longer, other) for other in kept):
                kept.append(longer)
        self._histories = kept

    def _narrow(self, last: Vector) -> None:
        """Note that the arm is at `last`: a joint that is outside of its range may only come back into it."""
        self._lower = np.minimum(self._robot.lower, np.maximum(self._lower, last))
        self._upper = np.maximum(self._robot.upper, np.minimum(self._upper, last))

    def _join(self, position: Vector, measured: Vector) -> None:
        """Choose the histories that `position` may continue, where the stream begins or was interrupted."""
        if not self._histories:
            self._begin(position, measured)
            return
        last = self._histories[0][-1]
        if self._silent:
            self._histories.append([last] * 3)
        shares = [self._share(position, history) for history in self._histories]
        most = 1.0 + TOLERANCE
        if not self._away:
            most = max(most, min(shares))
        going_on = [one for one, share in zip(self._histories, shares, strict=True) if share <= most]
        if self._away:
            # The arm may have been moved meanwhile: what it did before is forgotten.
            if not going_on:
                self._begin(position, measured)
            else:
                # The first is judged: a stream that begins anew may not be taken for a motion towards a limit.
                self._histories = [[position] * 3, *going_on]
                self._lower = np.minimum(self._robot.lower, position)
                self._upper = np.maximum(self._robot.upper, position)
            self._stop_ticks, self._rested_at = -1, None
            return
        if self._silent and most > 1.0 + TOLERANCE:
            step = np.abs(position - last) / (self._robot.velocity * self._period)
            self._note("restart", int(step.argmax()), most)
            self._begin(position, position)
            return
        self._histories = going_on
        self._narrow(last)

    def _begin(self, position: Vector, measured: Vector) -> None:
        step = np.abs(position - measured) / (self._robot.velocity * self._period)
        if step.max() > 1.0 + TOLERANCE:
            self._note("start", int(step.argmax()), float(step.max()))
        self._begins.append(self._ticks)
        self._histories = [[position] * 3]
        self._lower = np.minimum(self._robot.lower, position)
        self._upper = np.maximum(self._robot.upper, position)

    def _share(self, position: Vector, history: list[Vector]) -> float:
        """Return the largest share of a limit that going on from `history` to `position` takes."""
        shares, _ = self._shares(np.array([*history, position]))
        return float(np.fmax.reduce(shares, axis=None))

    def _shares(self, rows: Rows) -> tuple[Rows, Rows]:
        """Return velocity, acceleration and jerk at `rows[3:]` as shares of their limits, and the velocities.

        Args:
            rows: float64 [3 + K, N].

        Returns:
            float64 [3, K, N] and float64 [K, N].
        """
        velocity = np.diff(rows, axis=0) / self._period
        acceleration = np.diff(velocity, axis=0) / self._period
        jerk = np.diff(acceleration, axis=0) / self._period
        shares: Rows = np.abs(np.stack([velocity[2:], acceleration[1:], jerk])) / self._limits
        return shares, velocity[2:]

    def _allowed(self, position: Rows, velocity: Rows) -> Rows:
        """Return the position-dependent speed limits in the direction of motion, float64 [K, N]."""
        slope, corner, upper_end, lower_end = self._robot.envelope
        room = np.where(velocity > 0.0, upper_end - position, position - lower_end)
        with np.errstate(invalid="ignore"):
            bent = np.sqrt(np.maximum(slope * room, 0.0)) - corner
        limited: Rows = np.where(np.isfinite(slope), np.maximum(bent, 0.0), np.inf)
        return limited

    def _stops(self, rows: Rows, steps: Rows, stopped: Flags) -> None:
        """Under STOP an arm comes to rest in time and then does not move at all.

        Args:
            rows: float64 [K, N].
            steps: float64 [1 + K, N], how far each joint went before the first row, and to each row.
            stopped: bool [K].
        """
        at = 0
        while at < len(rows):
            changes = np.flatnonzero(stopped[at:] != stopped[at])
            end = at + int(changes[0]) if len(changes) else len(rows)
            if not stopped[at]:
                self._stop_ticks, self._rested_at = -1, None
                self._stop_travel = np.zeros_like(self._stop_travel)
                at = end
            elif self._rested_at is None:
                at += self._come_to_rest(rows[at:end], steps[at : end + 1], after=at)
            else:
                at += self._stay(rows[at:end], self._rested_at, after=at)

    def _come_to_rest(self, rows: Rows, steps: Rows, *, after: int) -> int:
        """Judge `rows` until the arm rests or a violation is found; return how many of them were judged."""
        robot = self._robot
        still: Flags = np.logical_and.reduce(steps <= STILL_SHARE * robot.velocity * self._period, axis=1)
        resting = np.flatnonzero(still[1:] & still[:-1])
        moving = int(resting[0]) if len(resting) else len(rows)
        travelled = np.add.accumulate(np.concatenate([self._stop_travel[None], steps[1 : 1 + moving]]))[1:]
        travel = travelled / (robot.velocity * self._rest_time)
        ticks = self._stop_ticks + 1 + np.arange(moving)
        late = ticks * self._period / (2.0 * self._rest_time)
        bad = np.flatnonzero((travel > 1.0).any(axis=1) | (late > 1.0))
        if not len(bad):
            self._stop_ticks += moving
            self._stop_travel = travelled[-1] if moving else self._stop_travel
            if moving == len(rows):
                return moving
            self._stop_ticks += 1
            self._rested_at = rows[moving]
            return moving + 1
        at = int(bad[0])
        self._stop_ticks, self._stop_travel = int(ticks[at]), travelled[at]
        if travel[at].max() > 1.0:
            share = float(travel[at].max())
            self._note("moves_under_stop", int(travel[at].argmax()), share, after=after + at)
            self._stop_travel = np.zeros_like(self._stop_travel)
        if late[at] > 1.0:
            slowest = int((steps[1 + at] / robot.velocity).argmax())
            self._note("late_rest", slowest, float(late[at]), after=after + at)
            self._stop_ticks = 0
        return at + 1

    def _stay(self, rows: Rows, rested_at: Vector, *, after: int) -> int:
        """Judge `rows` of an arm that has come to rest until it moves; return how many of them were judged."""
        creep = np.abs(rows - rested_at) / (self._robot.velocity * DRIFT_TIME)
        moved = np.flatnonzero((creep > 1.0).any(axis=1))
        if not len(moved):
            self._stop_ticks += len(rows)
            return len(rows)
        at = int(moved[0])
        self._note("moves_under_stop", int(creep[at].argmax()), float(creep[at].max()), after=after + at)
        self._stop_ticks += at + 1
        self._rested_at = rows[at]
        return at + 1

    def _note(self, kind: str, joint: int, share: float, *, after: int = 0) -> None:
        self._violations.append(Violation(kind, self._ticks + after, self._robot.names[joint], share))
