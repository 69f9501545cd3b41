# SPDX-License-Identifier: Apache-2.0
"""What other threads hand to the command thread: chunks, causes, requests of the operator. No rclpy."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from wam.core.chunk.action_chunk import ActionChunk
from wam.core.ladder import NOT_ARMED, finding
from wam.core.verdict import Finding, Verdict

ONCE = "once"


@dataclass(frozen=True, slots=True)
class Retreated:
    """What came of a request to go back.

    Attributes:
        moved: whether the arm has moved.
        text: how far it went, or why not, and what to do next.
    """

    moved: bool
    text: str


RetreatAnswer = Callable[[Retreated], None]


@dataclass(frozen=True, slots=True)
class Mail:
    """What has arrived since the last step.

    Attributes:
        chunk: the newest chunk and its arrival [ns], or None.
        causes: causes that are present now.
        clear_requested: the operator wants a latched STOP released.
        resume_requested: the operator lets the arm move.
    """

    chunk: tuple[ActionChunk, int] | None
    causes: tuple[Finding, ...]
    clear_requested: bool
    resume_requested: bool = False


class Mailbox:
    """Inputs of the safety cycle; every method but `take_mail` may be called from any thread and only stores."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offered: tuple[ActionChunk, int] | None = None
        self._causes: dict[tuple[str, str], Finding] = {}
        self._clear_requested = False
        self._resume_requested = False
        self._retreat_requested: RetreatAnswer | None = None
        self.answered = threading.Event()
        self.rested = threading.Event()
        self.rested.set()

    def offer_chunk(self, chunk: ActionChunk, *, arrival_ns: int) -> None:
        """Store the newest chunk, which arrived at `arrival_ns` [ns]."""
        with self._lock:
            self._offered = (chunk, arrival_ns)

    def estop(self, *, held: bool = False) -> None:
        """Request an emergency stop; `held` keeps the cause present until `withdraw_cause("estop")`."""
        self.raise_cause(finding("estop"), once=not held)

    def raise_cause(self, cause: Finding, *, once: bool = False, of: str = "") -> None:
        """Add a cause that lies outside of the cycle (second publisher, liveliness, e-stop).

        Args:
            cause: its code is a key of `wam.core.ladder.CAUSES`.
            once: the cause is present in one step only (a STOP stays latched after it).
            of: whose cause it is, where several may raise the same.
        """
        with self._lock:
            self._causes[(ONCE if once else of, cause.code)] = cause

    def not_armed(self) -> Finding | None:
        """Return the cause of an emergency stop that is not armed, or None; until it is, a go counts for nothing."""
        with self._lock:
            return next((one for one in self._causes.values() if one.code == NOT_ARMED), None)

    def withdraw_cause(self, code: str, *, of: str = "") -> None:
        """Remove a cause that was raised; a latched STOP stays until `clear_fault`."""
        with self._lock:
            self._causes.pop((of, code), None)

    def reject(self, refusal: str, text: str, *, of: str = "") -> None:
        """Report a message that could not even be read; `of` names the joint group whose message it was."""
        self.raise_cause(Finding(Verdict.HOLD, refusal, text, of), once=True)

    def rest(self) -> None:
        """Request a stop that ends the command stream; `rested` is set once the arm is at rest."""
        self.rested.clear()
        self.raise_cause(finding("deactivated"))

    def clear_fault(self) -> None:
        """Request the release of a latched STOP in the next step; `answered` is set once it has decided."""
        with self._lock:
            self._clear_requested = True
            self.answered.clear()

    def resume(self) -> None:
        """Let the arm move in the next step, unless a STOP is latched."""
        with self._lock:
            self._resume_requested = True

    def forget_requests(self) -> None:
        """Forget a release and a go that no step has dealt with, and the chunk that waits: they are of before."""
        with self._lock:
            self._clear_requested = self._resume_requested = False
            self._offered = None

    def retreat(self, answer: RetreatAnswer) -> None:
        """Let the arm go slowly back along its last commands from the next step on.

        Args:
            answer: called once, from the command thread, with how far it went or why not; must not block.
        """
        with self._lock:
            before, self._retreat_requested = self._retreat_requested, answer
        if before is not None:
            before(Retreated(False, "not gone back: another request came at the same moment"))

    def take_retreat(self) -> RetreatAnswer | None:
        """Return who wants the arm to go back, once; called by the command thread."""
        with self._lock:
            asked, self._retreat_requested = self._retreat_requested, None
        return asked

    def take_mail(self, *, leave_chunk: bool) -> Mail:
        """Return what has arrived; called by the command thread.

        Args:
            leave_chunk: the chunk stays until a later call (a newer one may replace it).
        """
        with self._lock:
            chunk = None
            if not leave_chunk:
                chunk, self._offered = self._offered, None
            causes = tuple(self._causes.values())
            self._causes = {key: one for key, one in self._causes.items() if key[0] != ONCE}
            asked, self._clear_requested = self._clear_requested, False
            resume, self._resume_requested = self._resume_requested, False
        return Mail(chunk, causes, asked, resume)
