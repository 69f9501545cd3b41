# SPDX-License-Identifier: Apache-2.0
"""The variants of the paper's Table 2.

naive_async   slow planner, fast executor, nothing else
memory        + rolling K/V memory in the planner
ovcr          + observation-guided routing of the context
full          both
"""

from __future__ import annotations

import enum
from dataclasses import replace

from wam.policies.aha_wam.config import AhaWamConfig


class Ablation(enum.Enum):
    """Which of the two mechanisms are present."""

    NAIVE_ASYNC = "naive_async"
    MEMORY = "memory"
    OVCR = "ovcr"
    FULL = "full"

    @property
    def has_memory(self) -> bool:
        """Whether the planner reads its past."""
        return self in (Ablation.MEMORY, Ablation.FULL)

    @property
    def has_routing(self) -> bool:
        """Whether the executor edits the context by what it sees."""
        return self in (Ablation.OVCR, Ablation.FULL)


def ablate(config: AhaWamConfig, variant: Ablation) -> AhaWamConfig:
    """Return the sizes of a variant; it has fewer parameters, not unused ones."""
    return replace(
        config,
        memory_window=config.memory_window if variant.has_memory else 0,
        queries=config.queries if variant.has_routing else 0,
    )
