# SPDX-License-Identifier: Apache-2.0
"""Random sequences of what operators, policies, sensors and people do to an arm, and what is noted of them.

A case follows from its robot and seed alone. `deed_play` plays it, `deed_judges` judges what was noted.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from wam.core.safety.effort import EffortLimits
from wam.core.verdict import Ladder
from wam.runtime.safety.mailbox import Retreated

Vector = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float64]

EFFORT = EffortLimits(8.0, 15.0, "N m")
TORQUE = EffortLimits(3.0, 6.0, "N m")
WAIT_TICKS = 1700
"""Longest that is waited for the answer to a request: a way back takes 15 s at most."""
FAR, NEAR, LEAST = 0.4, 0.02, 0.1


class Deed(enum.Enum):
    """What happens for a number of ticks; `Step.size` is 0 to 1."""

    CHUNKS = "chunks"  # a policy leads towards a goal
    ODD_CHUNKS = "odd_chunks"  # rows that no policy should send
    QUIET = "quiet"
    ESTOP = "estop"
    CLEAR = "clear"
    RESUME = "resume"
    RETREAT = "retreat"
    AWAIT = "await"  # the answer to a retreat, if one goes on
    SCALING = "scaling"
    OFFSET = "offset"  # a joint is reported elsewhere
    STUCK = "stuck"
    NOISE = "noise"
    LOST = "lost"  # no joint states
    NOT_FINITE = "not_finite"
    SAG = "sag"  # the arm is pushed a little off its command
    PUSH = "push"  # a joint reports an effort
    TORQUE = "torque"  # a joint reports an external torque
    CAUSE = "cause"  # one that forbids a way back, once


LASTING = (Deed.OFFSET, Deed.STUCK, Deed.NOISE, Deed.LOST, Deed.NOT_FINITE, Deed.SAG)


LIKELY = {
    Deed.CHUNKS: (
        *(Deed.QUIET, Deed.QUIET, Deed.RETREAT, Deed.RETREAT, Deed.ESTOP, Deed.PUSH, Deed.TORQUE),
        *(Deed.CHUNKS, Deed.SAG, Deed.LOST, Deed.SCALING),
    ),
    Deed.QUIET: (Deed.RETREAT, Deed.RETREAT, Deed.CHUNKS, Deed.RESUME),
    Deed.ESTOP: (Deed.CLEAR, Deed.CLEAR, Deed.CLEAR, Deed.RETREAT, Deed.RESUME, Deed.CHUNKS),
    Deed.CLEAR: (Deed.RETREAT, Deed.RETREAT, Deed.RESUME, Deed.RESUME, Deed.CHUNKS),
    Deed.RESUME: (Deed.CHUNKS, Deed.CHUNKS, Deed.CHUNKS, Deed.RETREAT, Deed.PUSH),
    Deed.RETREAT: (Deed.AWAIT, Deed.AWAIT, Deed.AWAIT, Deed.RETREAT, *Deed),
    Deed.AWAIT: (Deed.RETREAT, Deed.RETREAT, Deed.CLEAR, Deed.RESUME, Deed.RESUME),
    Deed.PUSH: (Deed.RETREAT, Deed.RETREAT, Deed.CLEAR, Deed.RESUME, Deed.QUIET),
    Deed.TORQUE: (Deed.RETREAT, Deed.RETREAT, Deed.CLEAR, Deed.RESUME, Deed.QUIET),
    Deed.SAG: (Deed.ESTOP, Deed.CLEAR, Deed.CHUNKS, Deed.RETREAT),
}
"""What often follows."""


@dataclass(frozen=True, slots=True)
class Step:
    """One deed.

    Attributes:
        deed: what happens.
        ticks: for how long.
        size: 0 to 1, how large it is.
        policy: chunks arrive meanwhile.
    """

    deed: Deed
    ticks: int
    size: float
    policy: bool


@dataclass(frozen=True, slots=True)
class Case:
    """A sequence.

    Attributes:
        robot: name of the robot file.
        seed: of everything that is left to chance.
        steps: in order.
        contact: how deep in something the arm begins [m]; None where it begins free.
        led: it was led there by chunks before the model knew; else it begins there.
        by_itself: the arm starts without an operator.
        boxed: the first tool is confined to a box about where it begins.
        approach: speed falls with the distance to obstacles.
        max_speed: largest speed of a tool [m/s]; 0 for none.
        reduced: reduced mode, from the beginning.
    """

    robot: str
    seed: int
    steps: tuple[Step, ...]
    contact: float | None
    led: bool
    by_itself: bool
    boxed: bool
    approach: bool
    max_speed: float
    reduced: bool


@dataclass(slots=True)
class Tick:
    """What was to be seen in one tick, after its step.

    Attributes:
        command: float64 [N], or None: silence.
        rung: of the cycle.
        code: of the cause in force.
        measured: float64 [N], what drivers reported last.
        heard: drivers reported, and numbers only.
        true_sense: what they reported is where the arm is.
        effort: of the joint with limits [N m].
        torque: external one of the other [N m].
        asked: requests that arrived before the step.
        pending: a retreat was asked for and not answered after the step.
    """

    command: Vector | None
    rung: Ladder
    code: str
    measured: Vector
    heard: bool
    true_sense: bool
    effort: float
    torque: float
    asked: tuple[Deed, ...]
    pending: bool


@dataclass(slots=True)
class Record:
    """A run.

    Attributes:
        case: what was played.
        tick_s: time between two ticks [s].
        ticks: what was seen, in order.
        known_from: tick from which the model knows about the contact.
        requests: retreats asked for.
        answers: tick and text of every answer.
        failures: texts of the exceptions that a step raised.
        box: float64 [2, 3], of the tool in its base [m], or None.
    """

    case: Case
    tick_s: float
    ticks: list[Tick] = field(default_factory=list)
    known_from: int = 0
    requests: int = 0
    answers: list[tuple[int, Retreated]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    box: Rows | None = None


def draw(robot: str, seed: int) -> Case:
    """Return the case of a seed."""
    rng = np.random.default_rng((seed, sum(robot.encode())))
    begins = rng.random()
    led = bool(begins < 0.25)
    steps = [Step(Deed.CHUNKS, int(rng.integers(40, 130)), float(rng.random()), True)]
    if led:
        steps = [Step(Deed.QUIET, 60, 0.0, False), Step(Deed.RETREAT, 3, 0.0, bool(rng.random() < 0.5))]
    deed = steps[-1].deed
    others = [*Deed, Deed.CLEAR, Deed.RESUME, Deed.RETREAT, Deed.ESTOP, Deed.CHUNKS, Deed.CHUNKS]
    for _ in range(int(rng.integers(10, 26))):
        choice = LIKELY.get(deed, ()) if rng.random() < 0.75 else ()
        choice = choice or tuple(others)
        deed = choice[int(rng.integers(len(choice)))]
        ticks = int(rng.choice([1, 3, 15, 40, 70]))
        if deed in (Deed.CHUNKS, Deed.ODD_CHUNKS):
            ticks = int(rng.integers(30, 110))
        elif deed is Deed.AWAIT:
            ticks = int(rng.integers(30, 300)) if rng.random() < 0.4 else WAIT_TICKS
        elif deed is Deed.QUIET:
            ticks = 70
        if deed is Deed.CHUNKS and rng.random() < 0.75:  # an operator who wants to go on
            steps += [Step(Deed.CLEAR, 3, 0.0, False), Step(Deed.RESUME, 2, 0.0, False)]
        policy = deed is not Deed.QUIET and bool(rng.random() < 0.6)
        steps.append(Step(deed, ticks, float(rng.random()), policy))
    return Case(
        robot=robot,
        seed=seed,
        steps=tuple(steps),
        contact=float(rng.uniform(0.0, 0.005)) if begins < 0.4 else None,
        led=led,
        by_itself=bool(rng.random() < 0.15),
        boxed=bool(rng.random() < 0.4),
        approach=bool(rng.random() < 0.4),
        max_speed=float(rng.uniform(0.1, 0.6)) if rng.random() < 0.25 else 0.0,
        reduced=bool(rng.random() < 0.2),
    )
