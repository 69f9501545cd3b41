# SPDX-License-Identifier: Apache-2.0
"""The slow half: it remembers where things stood when the instruction was given."""

from __future__ import annotations

import time

from torch import Tensor

from wam.core.context import PlannerContext
from wam.core.contract import PolicyContract
from wam.core.observation import Instruction, Observation
from wam.policies.results import context_header
from wam.policies.state.context import StateContext, environment_of


class StatePlanner:
    """Hands on the ground truth of its first observation since `reset`. One worker thread calls it.

    Args:
        contract: of the bundle.
    """

    def __init__(self, contract: PolicyContract) -> None:
        self._contract = contract
        self._version = 0
        self._first: Tensor | None = None

    def plan(self, observation: Observation, *, instruction: Instruction) -> PlannerContext[StateContext]:
        """Return a context of the observation's time.

        Raises:
            StaleObservation: the observation has no ground truth.
        """
        started_ns = time.perf_counter_ns()
        if self._first is None:
            self._first = environment_of(observation, self._contract)
        self._version += 1
        header = context_header(
            self._contract,
            stamp_ns=observation.stamp_ns,
            instruction=instruction,
            version=self._version,
            started_ns=started_ns,
        )
        return PlannerContext(header, StateContext(self._first))

    def reset(self) -> None:
        """Forget where things stood, and start counting versions anew."""
        self._version, self._first = 0, None
