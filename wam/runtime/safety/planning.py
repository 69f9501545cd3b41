# SPDX-License-Identifier: Apache-2.0
"""Chunks become plans: at once within a step, or in a thread of its own while commands go out. No rclpy.

A plan that is ready too late joins nothing: the plan at hand is played on, to its end if need be. While a plan waits to
be played the next one is not begun: it would lead on from a motion that is about to be replaced.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.chunk.action_chunk import ActionChunk
from wam.core.latency import LatencyWindow
from wam.core.thread_names import show_thread_name
from wam.core.turns import Turns
from wam.core.verdict import Finding
from wam.runtime.safety.intake import ChunkIntake
from wam.runtime.safety.measured import MeasuredState
from wam.runtime.safety.own_motions import WayBack
from wam.runtime.safety.plans import MotionPlan, Taken
from wam.runtime.safety.playback import Playback

Vector = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float64]

MAX_WAIT_TICKS = 8
"""Most ticks that a plan is given to be ready in."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a chunk.

    Attributes:
        chunk: the chunk.
        arrival_ns: when it arrived [ns].
        epoch: of the playback when its plan was begun.
        plan: what may be played, or None.
        mild: verdicts that did not refuse it.
        refused: why it was not let in; the rows at hand go on.
        cause: why the chain refused it; the arm holds or stops.
        reset: the policy was reset before it.
    """

    chunk: ActionChunk
    arrival_ns: int
    epoch: int = -1
    plan: MotionPlan | None = None
    mild: tuple[Finding, ...] = ()
    refused: Finding | None = None
    cause: Finding | None = None
    reset: bool = False

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, in order."""
        return self.mild + tuple(one for one in (self.refused, self.cause) if one is not None)


class Planning:
    """Makes plans from chunks.

    Args:
        intake: what chunks go through.
        playback: what the arm does.
        measured: newest measured state.
        wait_ticks: ticks that a remote checker is given on top.
    """

    def __init__(
        self, intake: ChunkIntake, playback: Playback, measured: MeasuredState, *, wait_ticks: int
    ) -> None:
        self._intake = intake
        self._playback = playback
        self._measured = measured
        self._remote_ticks = wait_ticks
        self._tick_s = intake.tick_ns * 1e-9
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._offered: tuple[ActionChunk, int] | None = None
        self._trail: Rows | None = None
        self._way_back: WayBack | None = None
        self._answers: deque[Answer] = deque(maxlen=16)
        self._thread: threading.Thread | None = None
        self._ending = False
        self._unplayed = False
        self._busy = threading.Lock()
        self._work = threading.Lock()
        self.answered = threading.Event()
        self.turns = Turns()
        self._took = LatencyWindow(256)
        self.forbidden: Finding | None = None
        self.error: BaseException | None = None

    @property
    def threaded(self) -> bool:
        """Whether a thread of its own makes the plans."""
        return self._thread is not None

    @property
    def took(self) -> LatencyWindow:
        """Time from the arrival of a chunk in this process to its plan [s]; only in a thread of its own."""
        return self._took

    def start(self) -> None:
        """Make plans in a thread from now on."""
        self._ending, self._unplayed = False, False
        self._thread = threading.Thread(target=self._run, name="plans", daemon=True)
        self._thread.start()

    def stop(self, *, timeout: float = 2.0) -> None:
        """End the thread."""
        thread, self._thread = self._thread, None
        with self._wake:
            self._ending, self._offered, self._trail = True, None, None
            self._wake.notify()
        if thread is not None:
            thread.join(timeout)

    def offer(self, chunk: ActionChunk, arrival_ns: int) -> None:
        """Make a plan of `chunk`, which arrived at `arrival_ns` [ns]; in a thread, the newest one counts."""
        if self._thread is None:
            self._answers.append(self._plan(chunk, arrival_ns, ticks=self._remote_ticks))
            return
        with self._wake:
            self._offered = (chunk, arrival_ns)
            self._wake.notify()

    def align(self, to: Vector) -> Taken:
        """Return a slow motion to `to`, float64 [N], for an arm that stands; see `OwnMotions.align`."""
        with self._work:
            now = self._playback.situation(0, arrival_ns=None, measured=to, ticks=0, anew=True)
            return self._intake.own.align(now, to)

    def ask_back(self, trail: Rows) -> None:
        """Make a plan back along `trail`, float64 [K, N], newest command first, for an arm that stands."""
        self._way_back = None
        if self._thread is None:
            self._way_back = self._back(trail)
            return
        with self._wake:
            self._trail = trail
            self._wake.notify()

    def take_back(self) -> WayBack | None:
        """Return the plan that `ask_back` has asked for once, or None while there is none."""
        taken, self._way_back = self._way_back, None
        return taken

    def take_answer(self) -> Answer | None:
        """Return the oldest answer that was not taken yet, or None."""
        return self._answers.popleft() if self._answers else None

    def settle(self, *, waiting: bool) -> None:
        """Let the thread make the next plan, unless the last one is still to be played.

        Args:
            waiting: the last one is being checked elsewhere.
        """
        if self._unplayed and not self._answers and not waiting:
            with self._wake:
                self._unplayed = False
                self._wake.notify()

    def forget(self) -> None:
        """Forget the order of chunks: the clock was set."""
        with self._busy:
            self._intake.admission.forget()

    def _run(self) -> None:
        show_thread_name()
        self.turns.mind()
        while True:
            with self._wake:
                while not (self._ending or self._trail is not None or self._may_plan()):
                    self._wake.wait()
                if self._ending:
                    return
                offered = None
                if self._may_plan():
                    offered, self._offered = self._offered, None
                trail, self._trail = self._trail, None
            try:
                if trail is not None:
                    self._way_back = self._back(trail)
                if offered is not None:
                    began = time.monotonic()
                    answer = self._plan(*offered, ticks=self._ticks())
                    self._took.add(round((time.monotonic() - began) * 1e9))
                    self._unplayed = answer.plan is not None
                    self._answers.append(answer)
            except Exception as error:  # handed to the command thread, which stops the arm and says so
                self.error = error
            self.answered.set()

    def _may_plan(self) -> bool:
        return self._offered is not None and not self._unplayed

    def _back(self, trail: Rows) -> WayBack:
        with self._work:
            here = trail[0] if len(trail) else self._playback.position
            now = self._playback.situation(0, arrival_ns=None, measured=here, ticks=0, anew=True)
            return self._intake.own.back(now, trail)

    def _ticks(self) -> int:
        """Return the ticks in which a plan will be ready: what the last ones took, and one that may be lost."""
        usual_s = self._took.percentile(95)
        usual = 0 if math.isnan(usual_s) else int(usual_s / self._tick_s)
        return min(MAX_WAIT_TICKS, 2 + usual) + self._remote_ticks

    def _plan(self, chunk: ActionChunk, arrival_ns: int, *, ticks: int) -> Answer:
        with self._busy:
            admitted = self._intake.admit(chunk, now_ns=arrival_ns)
        if isinstance(admitted, Finding):
            return Answer(chunk, arrival_ns, refused=admitted)
        measured = self._measured.look(arrival_ns)
        why = self.forbidden or measured.stale
        if why is not None:
            return Answer(chunk, arrival_ns, mild=(why,), reset=admitted.reset)
        epoch = self._playback.epoch
        now = self._playback.situation(
            chunk.stamp_ns,
            arrival_ns=arrival_ns,
            measured=measured.positions,
            ticks=ticks,
            anew=admitted.reset,
        )
        with self._work:
            taken = self._intake.take(admitted, arrival_ns=arrival_ns, now=now)
        return Answer(
            chunk, arrival_ns, epoch, taken.plan, taken.mild, taken.refused, taken.cause, admitted.reset
        )
