# SPDX-License-Identifier: Apache-2.0
"""Default latencies and periods of planner and executor, the same wherever a policy runs."""

from __future__ import annotations

from dataclasses import dataclass

from wam.core.chunk.splice import Strategy


@dataclass(frozen=True, slots=True)
class ScheduleDefaults:
    """Defaults of `wam demo`, `wam eval`, `wam replay`, scenario files and the executor and safety nodes.

    Attributes:
        planner_latency: time from the start of a plan to its context being usable, off the robot [s].
        executor_latency: time from the start of a cycle to its chunk being out, off the robot [s].
        planner_period: least time between the starts of two plans [s].
        executor_period: time between the starts of two chunks [s].
        max_context_age: the executor refuses a context whose image is older [s].
        strategy: how the safety node changes over from one chunk to the next.
    """

    planner_latency: float = 0.1
    executor_latency: float = 0.05
    planner_period: float = 0.25
    executor_period: float = 0.1
    max_context_age: float = 2.0
    strategy: Strategy = Strategy.BLEND


SCHEDULE = ScheduleDefaults()
"""The defaults."""
