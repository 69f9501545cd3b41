# SPDX-License-Identifier: Apache-2.0
"""One cycle of the executor: route the newest context by the newest image, denoise a chunk. No rclpy, no torch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wam.core.chunk import ActionChunk
from wam.core.chunk.timeline import DelayWindow, Timeline
from wam.core.context import ContextHandle, ContextHeader
from wam.core.contract import PolicyContract, require_same_contract
from wam.core.errors import (
    ContextError,
    InputError,
    PolicyFault,
    StageFailed,
    StaleContext,
    UndecodableChunk,
)
from wam.core.latency import LatencyWindow, Stopwatch, monotonic_ns
from wam.core.observation import Observation
from wam.core.policy import (
    Committed,
    ContextLease,
    ContextReader,
    Continuing,
    Executor,
    Imagination,
    Imagining,
    Paced,
)
from wam.core.trajectory.motion import Motion
from wam.runtime.planner import NO_NEWER_IMAGE

STILL_EXECUTING = "rows of the last chunk are executed first (execute_rows of the policy)"


@dataclass(frozen=True, slots=True)
class ExecutorResult:
    """What one cycle has to publish, or why it stays silent.

    Attributes:
        chunk: the new chunk, or None.
        reason: why there is none; "" with a chunk.
    """

    chunk: ActionChunk | None
    reason: str = ""


class ExecutorCycle:
    """The executor's work, named stage by stage in `step`.

    Args:
        contract: contract of the loaded policy.
        executor: the fast half of the policy.
        reader: executor's end of the context transport.
        observe: returns the newest observation at a time [ns], or raises an `InputError`.
        max_context_age_ns: a context whose image is older than this is refused [ns]; the policy's horizon
            refuses it in any case.
        stopwatch: monotonic clock for inference time and overhead [ns].

    Attributes:
        pace: share of its own speed at which the robot moves, 0..1; may be set from any thread.
        failed_stages: stage -> why it runs as it is written since its backend failed.
    """

    def __init__(
        self,
        *,
        contract: PolicyContract,
        executor: Executor[Any],
        reader: ContextReader[Any],
        observe: Callable[[int], Observation],
        max_context_age_ns: int,
        stopwatch: Stopwatch = monotonic_ns,
    ) -> None:
        self._contract = contract
        self._executor = executor
        # Asked once: a check against a protocol looks at every attribute of it.
        self._imagining = executor if isinstance(executor, Imagining) else None
        self._paced = executor if isinstance(executor, Paced) else None
        self._continuing = executor if isinstance(executor, Continuing) else None
        self._reader = reader
        self._observe = observe
        self._max_age_ns = min(max_context_age_ns, contract.horizon_ns)
        self._stopwatch = stopwatch
        self._lock = threading.Lock()
        self._offered: tuple[ContextHeader, ContextHandle] | None = None
        self._header: ContextHeader | None = None
        self._lease: ContextLease[Any] | None = None
        self._sequence = 0
        self._routed_stamp_ns: int | None = None
        self._sent: ActionChunk | None = None
        self._delays = DelayWindow()
        self.pace = 1.0
        self.failed_stages: dict[str, str] = {}
        self.chunk_time = LatencyWindow()
        self.overhead = LatencyWindow()
        self.chunks = 0
        self.skipped = 0
        self.last_chunk: ActionChunk | None = None
        self.reason = "no planner context yet"

    @property
    def header(self) -> ContextHeader | None:
        """Header of the context in use, or None before the first."""
        return self._header

    @property
    def waits_for(self) -> str:
        """Why no chunk is produced; "" while only a newer image is missing, or the last chunk is still executed."""
        return "" if self.reason in (NO_NEWER_IMAGE, STILL_EXECUTING) else self.reason

    @property
    def imagines(self) -> bool:
        """Whether the policy predicts what its cameras will see."""
        return self._imagining is not None

    @property
    def imagination(self) -> Imagination | None:
        """What the policy predicts for the last chunk, or None where it predicts nothing; from the thread of `step`."""
        return None if self._imagining is None else self._imagining.imagination

    @property
    def paced(self) -> bool:
        """Whether the policy has to know how fast the robot moves."""
        return self._paced is not None

    def offer_context(self, header: ContextHeader, handle: ContextHandle) -> None:
        """Store a context that has arrived; called from any thread, never blocks on a cycle.

        Raises:
            ContractMismatch: the context was computed by another policy; the one in use stays.
        """
        require_same_contract(
            mine=self._contract.contract_hash,
            theirs=header.contract_hash,
            my_side="executor",
            their_side="planner context",
        )
        with self._lock:
            if self._offered is None or _supersedes(header, self._offered[0]):
                self._offered = (header, handle)

    def step(self, now_ns: int) -> ExecutorResult:
        """Run one cycle at `now_ns` [ns]; called from one thread.

        Raises:
            PolicyFault: the policy produced a value that must not reach a robot.
        """
        entered = self._stopwatch()
        # 1. The newest context: lease it, give the older one back.
        try:
            self._take_context()
            if self._lease is None or self._header is None:
                return self._silent("no planner context yet")
            # 2. The newest observation.
            observation = self._observe(now_ns)
            if observation.stamp_ns == self._routed_stamp_ns:
                return self._silent(NO_NEWER_IMAGE)
            if self._executing(self._header, observation):
                return self._silent(STILL_EXECUTING)
            # 3. Stamps decide whether the context can still serve it.
            self._require_fresh(self._header, observation)
            context = self._lease.get()
            # 4. Route the context by the newest image, then denoise one chunk.
            if self._paced is not None:
                self._paced.pace(self.pace)
            if self._continuing is not None:
                self._continuing.continue_from(self._committed(observation.stamp_ns))
            started = self._stopwatch()
            routed = self._executor.route(observation, context=context)
            chunk = self._executor.act(routed, proprio=observation.state)
            finished = self._stopwatch()
        except StageFailed as error:
            # The robot goes on along the rows that it has; the next cycle computes without that backend.
            self.failed_stages[error.stage] = str(error)
            return self._silent(str(error))
        except (InputError, ContextError, UndecodableChunk) as error:
            return self._silent(str(error))
        # 5. The chunk must be what this node promised.
        self._require_sound(chunk)
        # 6. Number it.
        self._sequence += 1
        chunk = replace(chunk, sequence=self._sequence, inference_ns=finished - started)
        self._routed_stamp_ns = observation.stamp_ns
        self.last_chunk = chunk
        self.chunks += 1
        self.reason = ""
        self.chunk_time.add(finished - started)
        self.overhead.add(self._stopwatch() - entered - (finished - started))
        return ExecutorResult(chunk)

    def sent(self, chunk: ActionChunk, *, at_ns: int) -> None:
        """Note that a chunk of `step` is out; from the thread of `step`.

        Args:
            chunk: as it was sent.
            at_ns: when [ns].
        """
        self._sent = chunk
        self._delays.add(stamp_ns=chunk.stamp_ns, arrival_ns=at_ns)

    def close(self) -> None:
        """Give the lease back; the next context offered starts anew."""
        with self._lock:
            self._offered = None
        if self._lease is not None:
            self._lease.release()
        self._lease, self._header = None, None
        self._sent = None

    def _executing(self, header: ContextHeader, observation: Observation) -> bool:
        """Return whether rows of the last chunk are to be executed before there is another one."""
        last = self.last_chunk
        if last is None or last.generation != header.generation:
            return False
        return 0 <= observation.stamp_ns - last.stamp_ns < self._contract.execute_ns

    def _committed(self, stamp_ns: int) -> Committed | None:
        """Return what is executed from an observation on; None where no earlier chunk reaches it."""
        sent, header = self._sent, self._header
        if sent is None or header is None or sent.generation != header.generation:
            return None
        period_ns = sent.row_period_ns
        timeline = Timeline(Motion(sent.stamp_ns, period_ns, sent.rows))
        covered = (timeline.end_ns - stamp_ns) // period_ns + 1
        if stamp_ns < sent.stamp_ns or covered < 1:
            return None
        return Committed(
            rows=timeline.prefix(stamp_ns, rows=len(sent.rows), period_ns=period_ns),
            fixed=min(-(-self._delays.delay_ns() // period_ns), covered),
            covered=covered,
        )

    def _take_context(self) -> None:
        with self._lock:
            offered = self._offered
            self._offered = None
        if offered is None:
            return
        header, handle = offered
        if self._header is not None and not _supersedes(header, self._header):
            return
        lease = self._reader.open(header, handle)
        if self._lease is not None:
            self._lease.release()
        if self._header is None or header.generation != self._header.generation:
            self._sequence = 0
            self._routed_stamp_ns = None
        self._lease, self._header = lease, header

    def _require_fresh(self, header: ContextHeader, observation: Observation) -> None:
        age_ns = header.age_ns(observation.stamp_ns)
        if age_ns > self._max_age_ns:
            raise StaleContext(
                "planner context is too old for the newest image",
                value=f"{age_ns / 1e6:.0f} ms",
                allowed=f"at most {self._max_age_ns / 1e6:.0f} ms",
                where="the executor's parameter `max_context_age`, or make the planner faster",
            )

    def _require_sound(self, chunk: ActionChunk) -> None:
        if chunk.joint_names != self._contract.action_joints:
            raise PolicyFault(
                "chunk has other joints than its contract",
                value=list(chunk.joint_names),
                allowed=f"{list(self._contract.action_joints)}",
                where="the policy bundle",
            )
        if not np.all(np.isfinite(chunk.rows)):
            row, column = np.argwhere(~np.isfinite(chunk.rows))[0]
            raise PolicyFault(
                f"chunk holds a non-finite target for {chunk.joint_names[column]} in row {row}",
                value=float(chunk.rows[row, column]),
                allowed="finite numbers",
                where="the policy bundle",
            )

    def _silent(self, reason: str) -> ExecutorResult:
        self.reason = reason
        self.skipped += 1
        return ExecutorResult(None, reason)


def _supersedes(header: ContextHeader, other: ContextHeader) -> bool:
    """Return whether `header` replaces `other`.

    A restarted planner counts from 1 again but has newer images; a clock that was set back gives older stamps but
    higher counts. A late message of a former generation is older in both.
    """
    return header.newer_than(other) or header.stamp_ns > other.stamp_ns
