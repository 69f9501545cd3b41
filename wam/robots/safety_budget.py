# SPDX-License-Identifier: Apache-2.0
"""Deadlines and distances of a robot's safety node, and who lets its arms move again."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from wam.robots.estop import EstopSource

DELIVERY_JITTER_NS = 1_000_000
"""What DDS varies by between two processes of one machine that is not overloaded [ns]."""


class StartRule(enum.Enum):
    """Who lets an arm move that was held for a fault."""

    OPERATOR = "operator"  # ~/resume; a simulated arm starts by itself
    ALWAYS_OPERATOR = "always_operator"  # ~/resume, in simulation as well
    BY_ITSELF = "by_itself"

    def by_itself(self, *, simulated: bool) -> bool:
        """Return whether the arm starts without an operator."""
        return self is StartRule.BY_ITSELF or (simulated and self is StartRule.OPERATOR)


@dataclass(frozen=True, slots=True)
class SafetyBudget:
    """Deadlines and distances of the safety node.

    Attributes:
        chunk_timeout_ns: no valid chunk for this long means HOLD [ns].
        max_jump: largest distance of the measured state from the nearest row between observation and now [rad or m].
        tracking_error: largest distance between command and measured state [rad or m].
        lead_ns: time by which commands run ahead of the measured state [ns].
        blend_ns: time over which a new chunk takes over from the old one [ns].
        delivery_jitter_ns: by how much the delivery of a trajectory to its controller may vary [ns].
        estop_sources: emergency stops that must be there.
        start: who lets the arm move after activation, a cleared STOP, and a driver that was away.
    """

    chunk_timeout_ns: int
    max_jump: float
    tracking_error: float
    lead_ns: int
    blend_ns: int
    delivery_jitter_ns: int = DELIVERY_JITTER_NS
    estop_sources: tuple[EstopSource, ...] = ()
    start: StartRule = StartRule.OPERATOR


NO_BUDGET = SafetyBudget(chunk_timeout_ns=1, max_jump=1e-6, tracking_error=1e-6, lead_ns=0, blend_ns=0)
"""Budget of a robot whose file is for replay and has none: nothing would be let through."""
