# SPDX-License-Identifier: Apache-2.0
"""State of a device as its driver reports it: readiness, a sentence, and the steps back to ready."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ANSWER_S = 15.0
"""Longest wait for the answer of a step that names none: releasing brakes takes some seconds [s]."""


class Readiness(enum.IntEnum):
    """Whether a device may be commanded, mildest first; several states combine to the most severe."""

    READY = 0
    DEGRADED = 1  # it may be commanded, and somebody should check it
    WAITING = 2  # it becomes ready by itself, or by one call
    BLOCKED = 3  # a person has to check first
    ABSENT = 4  # no messages arrive


class StepKind(enum.Enum):
    """Who carries a step out."""

    PERSON = "person"
    SERVICE = "service"
    ACTION = "action"


@dataclass(frozen=True, slots=True)
class ListCheck:
    """A list that the driver keeps, and what it must show; what a call answers is no proof of what it did.

    Attributes:
        name: ROS name of the service, relative to the driver's namespace.
        type: its type, a key of `wam.devices.optional.VENDOR_TYPES`.
        unmet: returns what a response shows instead of what is wanted; "" where it is as wanted.
    """

    name: str
    type: str
    unmet: Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a recovery.

    Attributes:
        text: what is done, for a person.
        kind: who does it.
        name: ROS name of the service or action, relative to the driver's namespace; "" for a person's step.
        moves: whether the robot may move or sink while it is carried out.
        type: type of the service or action, a key of `wam.devices.optional.VENDOR_TYPES`.
        values: fields of the request or goal that are not the type's defaults; a dot leads into a nested message.
        instead: carried out only where the step before it failed, and that step then counts as done.
        limit_s: longest wait for its answer [s].
        check: left out where this holds already; done once it holds, whatever the call answered. None for no check.
        by_hand: what a person does where it fails; "" for nothing beyond `text`.
    """

    text: str
    kind: StepKind = StepKind.PERSON
    name: str = ""
    moves: bool = False
    type: str = ""
    values: tuple[tuple[str, object], ...] = ()
    instead: bool = False
    limit_s: float = ANSWER_S
    check: ListCheck | None = None
    by_hand: str = ""


@dataclass(frozen=True, slots=True)
class DriverState:
    """State of one device.

    Attributes:
        readiness: whether it may be commanded.
        code: machine-readable, e.g. "protective_stop".
        text: one sentence with the value seen.
        steps: steps back to READY, in order; empty when it is ready.
        unseen: what of its status cannot be seen, and why: however ready it seems, that proves nothing. "" for nothing.
    """

    readiness: Readiness
    code: str
    text: str
    steps: tuple[Step, ...] = ()
    unseen: str = ""

    @property
    def commandable(self) -> bool:
        """Whether commands may be sent."""
        return self.readiness <= Readiness.DEGRADED


def worst(states: Sequence[DriverState]) -> DriverState:
    """Return the most severe state; of equally severe ones, the first."""
    if not states:
        raise ValueError("worst() of no states")
    return max(states, key=lambda state: state.readiness)


def person(text: str, *, moves: bool = False) -> Step:
    """Return a step that a person carries out."""
    return Step(text, moves=moves)


def service(
    name: str,
    text: str,
    *,
    moves: bool = False,
    type: str = "trigger",
    values: Mapping[str, object] | None = None,
    instead: bool = False,
    limit_s: float = ANSWER_S,
    check: ListCheck | None = None,
    by_hand: str = "",
) -> Step:
    """Return a step that is a call of a ROS service, std_srvs/Trigger unless `type` says otherwise."""
    given = tuple((values or {}).items())
    return Step(text, StepKind.SERVICE, name, moves, type, given, instead, limit_s, check, by_hand)


def action(
    name: str, text: str, *, type: str, moves: bool = False, limit_s: float = ANSWER_S, by_hand: str = ""
) -> Step:
    """Return a step that is a ROS action goal."""
    return Step(text, StepKind.ACTION, name, moves, type, limit_s=limit_s, by_hand=by_hand)


class Recovery:
    """Goes through the steps of a state in order; a failed step ends the recovery.

    Args:
        steps: in order.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = tuple(steps)
        self._at = 0
        self._failure = ""

    @property
    def current(self) -> Step | None:
        """The step to carry out now, or None when the recovery has ended."""
        return None if self._failure or self._at >= len(self._steps) else self._steps[self._at]

    @property
    def succeeded(self) -> bool:
        """Whether every step was carried out."""
        return not self._failure and self._at >= len(self._steps)

    @property
    def failure(self) -> str:
        """Why the recovery ended early, or ""."""
        return self._failure

    @property
    def rest(self) -> tuple[Step, ...]:
        """The steps behind the current one, or behind the one that failed."""
        return self._steps[self._at + 1 :]

    def done(self, ok: bool, reason: str = "") -> None:
        """Report how the current step ended.

        Raises:
            ValueError: there is no current step.
        """
        step = self.current
        if step is None:
            raise ValueError("the recovery has ended already")
        following = self._steps[self._at + 1] if self._at + 1 < len(self._steps) else None
        if ok:
            self._at += 1
            while self._at < len(self._steps) and self._steps[self._at].instead:
                self._at += 1
        elif following is not None and following.instead:
            self._at += 1
        else:
            place = f"step {self._at + 1} of {len(self._steps)} ({step.text})"
            self._failure = f"{place} failed: {reason or 'no reason given'}"
            if step.by_hand:
                self._failure += f"; by hand: {step.by_hand}"
