# SPDX-License-Identifier: Apache-2.0
"""What a safety node says during a replay, as values: verdicts, ladder moves, commands, and who said it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from wam.core.verdict import Event as LadderMove
from wam.core.verdict import Finding, Ladder, Verdict, worst
from wam.runtime.safety.intake import ChunkOutcome


class SafetySource(enum.Enum):
    """Where the safety figures of a replay were measured."""

    OFFLINE_FILTERS = "offline filters"
    LIVE_NODE = "live node"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class SafetyInfo:
    """Who judges the chunks of a replay.

    Attributes:
        source: the cycle on the recording's clock, or the running node.
        tick_ns: time between two commands [ns].
        not_checked: why collisions and workspace (by nobody: anything) are not checked; "" where they are.
    """

    source: SafetySource
    tick_ns: int
    not_checked: str = ""


@dataclass(frozen=True, slots=True)
class VerdictEvent:
    """What the safety chain said about one chunk.

    Attributes:
        time_ns: when [ns].
        generation: of the chunk.
        outcome: its number and the findings.
    """

    time_ns: int
    generation: int
    outcome: ChunkOutcome

    @property
    def finding(self) -> Finding | None:
        """The most severe finding, or None where no filter objected."""
        return worst(self.outcome.findings)

    @property
    def verdict(self) -> Verdict:
        """The most severe verdict; OK where there is no finding."""
        return self.outcome.verdict


@dataclass(frozen=True, slots=True)
class VerdictCountEvent:
    """Chunks that a running node has judged since its previous count; it does not publish each verdict.

    Attributes:
        time_ns: when the node counted [ns].
        counts: verdict -> chunks; empty for the count that marks the first chunk.
    """

    time_ns: int
    counts: Mapping[Verdict, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LadderEvent:
    """A move on the degrade ladder, or a finding that leaves the rung unchanged.

    Attributes:
        time_ns: when [ns].
        event: the move and its cause.
    """

    time_ns: int
    event: LadderMove


@dataclass(frozen=True, slots=True)
class CommandEvent:
    """The commands of some consecutive ticks, from the first judged chunk on.

    Attributes:
        time_ns: time of the last of these ticks [ns].
        due_ns: int64 [T], when each command is due at the robot [ns].
        positions: float64 [T, N], joints of the robot in its order; NaN where no command was sent.
        rungs: rung -> ticks spent on it.
    """

    time_ns: int
    due_ns: npt.NDArray[np.int64]
    positions: npt.NDArray[np.float64]
    rungs: Mapping[Ladder, int]


SafetyEvent = VerdictEvent | VerdictCountEvent | LadderEvent | CommandEvent
"""What an engine reports about the safety node."""
