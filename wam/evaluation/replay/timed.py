# SPDX-License-Identifier: Apache-2.0
"""A policy with a stopwatch: how long a prefill and a chunk take on this host."""

from __future__ import annotations

from typing import Any

from wam.core.chunk import ActionChunk
from wam.core.context import ContextHandle, ContextHeader, PlannerContext
from wam.core.latency import Stopwatch
from wam.core.observation import Instruction, Observation, RobotState
from wam.core.policy import (
    Committed,
    ContextLease,
    ContextReader,
    Continuing,
    Executor,
    Imagination,
    Imagining,
    Planner,
    RoutedContext,
)


class TimedPolicy:
    """Both halves of a policy, and the executor's end of its transport, with a stopwatch around them.

    Holds the times of the last cycle of each: `plan_ns` is L_prefill, one call of the planner; `chunk_ns` is L_chunk,
    access to the planner context, image encoding, routing and denoising (AHA-WAM paper, appendix D).

    Args:
        planner: the slow half.
        executor: the fast half.
        reader: opens contexts.
        stopwatch: monotonic clock of the host [ns].
    """

    def __init__(
        self,
        planner: Planner[Any],
        executor: Executor[Any],
        reader: ContextReader[Any],
        stopwatch: Stopwatch,
    ) -> None:
        self._planner = planner
        self._executor = executor
        # Asked once: a check against a protocol looks at every attribute of it.
        self._imagining = executor if isinstance(executor, Imagining) else None
        self._continuing = executor if isinstance(executor, Continuing) else None
        self._reader = reader
        self._stopwatch = stopwatch
        self.plan_ns = 0
        self.chunk_ns = 0

    @property
    def imagination(self) -> Imagination | None:
        """See `Imagining`."""
        return None if self._imagining is None else self._imagining.imagination

    def plan(self, observation: Observation, *, instruction: Instruction) -> PlannerContext[Any]:
        """See `Planner.plan`."""
        began = self._stopwatch()
        context = self._planner.plan(observation, instruction=instruction)
        self.plan_ns = self._stopwatch() - began
        return context

    def reset(self) -> None:
        """See `Planner.reset`."""
        self._planner.reset()

    def route(self, observation: Observation, *, context: PlannerContext[Any]) -> RoutedContext[Any]:
        """See `Executor.route`."""
        began = self._stopwatch()
        routed = self._executor.route(observation, context=context)
        self.chunk_ns += self._stopwatch() - began
        return routed

    def continue_from(self, committed: Committed | None) -> None:
        """See `Continuing`; a policy that cannot continue a chunk is told nothing."""
        if self._continuing is not None:
            self._continuing.continue_from(committed)

    def act(self, routed: RoutedContext[Any], *, proprio: RobotState) -> ActionChunk:
        """See `Executor.act`."""
        began = self._stopwatch()
        chunk = self._executor.act(routed, proprio=proprio)
        self.chunk_ns += self._stopwatch() - began
        return chunk

    def open(self, header: ContextHeader, handle: ContextHandle) -> ContextLease[Any]:
        """See `ContextReader.open`."""
        began = self._stopwatch()
        lease = self._reader.open(header, handle)
        self.chunk_ns += self._stopwatch() - began
        return _TimedLease(lease, self)

    def close(self) -> None:
        """See `ContextReader.close`."""
        self._reader.close()

    def read(self, lease: ContextLease[Any]) -> PlannerContext[Any]:
        """Return what `lease` holds, timed as part of the chunk."""
        began = self._stopwatch()
        context = lease.get()
        self.chunk_ns += self._stopwatch() - began
        return context


class _TimedLease:
    """A lease that is read through `TimedPolicy.read`."""

    def __init__(self, lease: ContextLease[Any], timed: TimedPolicy) -> None:
        self._lease = lease
        self._timed = timed

    def get(self) -> PlannerContext[Any]:
        return self._timed.read(self._lease)

    def release(self) -> None:
        self._lease.release()
