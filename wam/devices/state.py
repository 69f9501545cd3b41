# SPDX-License-Identifier: Apache-2.0
"""What a driver's edge says of its device: a state with a text and the steps that lead out of it."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class Readiness(enum.IntEnum):
    """Whether a device may be commanded, mildest first; several combine to the largest."""

    READY = 0
    DEGRADED = 1  # it may be commanded, and somebody should look at it
    WAITING = 2  # it gets ready by itself, or one call makes it ready
    BLOCKED = 3  # a person has to look first
    ABSENT = 4  # nothing is heard of it


class StepKind(enum.Enum):
    """Who carries a step out."""

    PERSON = "person"
    SERVICE = "service"
    ACTION = "action"


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
    """

    text: str
    kind: StepKind = StepKind.PERSON
    name: str = ""
    moves: bool = False
    type: str = ""
    values: tuple[tuple[str, object], ...] = ()
    instead: bool = False


@dataclass(frozen=True, slots=True)
class DriverState:
    """State of one device.

    Attributes:
        readiness: whether it may be commanded.
        code: machine-readable, e.g. "protective_stop".
        text: one sentence with the value seen.
        steps: what leads back to READY, in order; empty when it is ready.
    """

    readiness: Readiness
    code: str
    text: str
    steps: tuple[Step, ...] = ()

    @property
    def commandable(self) -> bool:
        """Whether commands may be sent."""
        return self.readiness <= Readiness.DEGRADED


def worst(states: Sequence[DriverState]) -> DriverState:
    """Return the state that hinders most; of several alike, the first."""
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
) -> Step:
    """Return a step that is a call of a ROS service, std_srvs/Trigger unless `type` says otherwise."""
    return Step(text, StepKind.SERVICE, name, moves, type, tuple((values or {}).items()), instead)


def action(name: str, text: str, *, type: str, moves: bool = False) -> Step:
    """Return a step that is a ROS action goal."""
    return Step(text, StepKind.ACTION, name, moves, type)


class Recovery:
    """Walks the steps of a state in order; a step that fails ends the walk, and nothing after it is done.

    Args:
        steps: in order.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = tuple(steps)
        self._at = 0
        self._failure = ""

    @property
    def current(self) -> Step | None:
        """The step to carry out now, or None when the walk has ended."""
        return None if self._failure or self._at >= len(self._steps) else self._steps[self._at]

    @property
    def succeeded(self) -> bool:
        """Whether every step was carried out."""
        return not self._failure and self._at >= len(self._steps)

    @property
    def failure(self) -> str:
        """Why the walk ended early, or ""."""
        return self._failure

    def done(self, ok: bool, reason: str = "") -> None:
        """Tell how the current step ended.

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
