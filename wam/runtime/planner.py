# SPDX-License-Identifier: Apache-2.0
"""One cycle of the planner: newest image in, planner context out. Pure: no rclpy, no torch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from wam.core.context import ContextHandle, ContextHeader, PlannerContext
from wam.core.contract import PolicyContract, require_same_contract
from wam.core.errors import InputError, StageFailed
from wam.core.latency import LatencyWindow, Stopwatch, monotonic_ns
from wam.core.observation import MAX_INSTRUCTION_CHARS, Instruction, Observation
from wam.core.policy import ContextPublisher, Planner

NO_NEWER_IMAGE = "no newer image"
"""Reason of a cycle that has done its work; nothing is wrong."""


@dataclass(frozen=True, slots=True)
class PlannerResult:
    """What one cycle has to publish, or why it stays silent.

    Attributes:
        header: header of the new context, or None.
        handle: handle of the new context, or None.
        reason: why there is none; "" with a context.
    """

    header: ContextHeader | None
    handle: ContextHandle | None
    reason: str = ""


class PlannerCycle:
    """The planner's work, named stage by stage in `step`.

    Args:
        contract: contract of the loaded policy.
        planner: the slow half of the policy.
        publisher: planner's end of the context transport.
        observe: returns the newest observation at a time [ns], or raises an `InputError`.
        instruction: first task text.
        generation: of the first task text, from 1; the noise of a policy depends on it.
        stopwatch: monotonic clock for the planning time [ns].

    Attributes:
        failed_stages: stage -> why it runs as it is written since its backend failed.
    """

    def __init__(
        self,
        *,
        contract: PolicyContract,
        planner: Planner[Any],
        publisher: ContextPublisher[Any],
        observe: Callable[[int], Observation],
        instruction: str,
        generation: int = 1,
        stopwatch: Stopwatch = monotonic_ns,
    ) -> None:
        self._contract = contract
        self._planner = planner
        self._publisher = publisher
        self._observe = observe
        self._stopwatch = stopwatch
        self._lock = threading.Lock()
        self._instruction = checked_instruction(instruction, generation=generation)
        self._planned: tuple[int, int] | None = None  # generation and stamp of the last context
        self._reset_wanted = False
        self.plan_time = LatencyWindow()
        self.published = 0
        self.reason = "no observation yet"
        self.failed_stages: dict[str, str] = {}

    @property
    def instruction(self) -> Instruction:
        """The task text in force, with its generation."""
        with self._lock:
            return self._instruction

    @property
    def waits_for(self) -> str:
        """Why no context is published; "" while nothing but a newer image is missing."""
        return "" if self.reason == NO_NEWER_IMAGE else self.reason

    def set_instruction(self, text: str) -> Instruction:
        """Start a new generation; an empty `text` keeps the words. Called from any thread.

        Raises:
            InputError: the text is too long; the former one stays in force.
        """
        with self._lock:
            text = text if text.strip() else self._instruction.text
            self._instruction = checked_instruction(text, generation=self._instruction.generation + 1)
            self._reset_wanted = True
            return self._instruction

    def step(self, now_ns: int) -> PlannerResult:
        """Run one cycle at `now_ns` [ns]; called from one thread.

        Raises:
            PolicyFault: the policy produced a value that must not be published.
        """
        # 1. The instruction in force; a new one empties the rolling memory first.
        instruction = self._take_instruction()
        # 2. The newest observation.
        try:
            observation = self._observe(now_ns)
        except InputError as error:
            return self._silent(str(error))
        # 3. Nothing to do when this image was planned already.
        if self._planned == (instruction.generation, observation.stamp_ns):
            return self._silent(NO_NEWER_IMAGE)
        if self._planned is not None and observation.stamp_ns < self._planned[1]:
            # A clock that was set back (a bag that starts again): what the policy remembers lies in its future.
            self.set_instruction("")
            instruction = self._take_instruction()
        # 4. Prefill.
        started = self._stopwatch()
        try:
            context = self._planner.plan(observation, instruction=instruction)
        except StageFailed as error:
            # The context before stays in force; the next cycle plans without that backend.
            self.failed_stages[error.stage] = str(error)
            return self._silent(str(error))
        elapsed = self._stopwatch() - started
        # 5. The context must be what this node promised.
        require_same_contract(
            mine=self._contract.contract_hash,
            theirs=context.header.contract_hash,
            my_side="planner node",
            their_side="planner's context",
        )
        # 6. Hand over by handle.
        header = replace(context.header, plan_ns=elapsed)
        handle = self._publisher.publish(PlannerContext(header, context.payload))
        self.plan_time.add(elapsed)
        self._planned = (instruction.generation, observation.stamp_ns)
        self.published = header.version
        self.reason = ""
        return PlannerResult(header, handle)

    def _take_instruction(self) -> Instruction:
        with self._lock:
            instruction, reset = self._instruction, self._reset_wanted
            self._reset_wanted = False
        if reset:
            self._planner.reset()
            self.published = 0
        return instruction

    def _silent(self, reason: str) -> PlannerResult:
        self.reason = reason
        return PlannerResult(None, None, reason)


def checked_instruction(text: str, *, generation: int) -> Instruction:
    """Return `text` as an instruction.

    Raises:
        InputError: it is empty or longer than `MAX_INSTRUCTION_CHARS`.
    """
    if not text.strip() or len(text) > MAX_INSTRUCTION_CHARS:
        raise InputError(
            "instruction",
            value=f"{len(text)} characters",
            allowed=f"1 .. {MAX_INSTRUCTION_CHARS} characters",
            where="the parameter `instruction`, or the call of ~/set_instruction",
        )
    return Instruction(text, generation)
