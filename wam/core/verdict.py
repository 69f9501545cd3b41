# SPDX-License-Identifier: Apache-2.0
"""Verdicts of the safety chain and rungs of the degrade ladder (design.md sections 4 and 5)."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass


class Verdict(enum.IntEnum):
    """Outcome of a filter, ordered by severity; several combine to the largest."""

    OK = 0
    SCALED = 1
    CLAMPED = 2
    HOLD = 3
    STOP = 4


class Ladder(enum.IntEnum):
    """Rung of the degrade ladder; values are those of `wam_msgs/SafetyEvent`."""

    NOMINAL = 1
    LATE = 2
    SLOW = 3
    HOLD = 4
    STOP = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a verdict is not OK: the first offender.

    Attributes:
        verdict: severity.
        code: machine-readable cause, e.g. "velocity_limit".
        text: one sentence: what, value, limit, where to change it.
        joint: name of the first offending joint, or "".
        value: measured value (unit named in `text`), NaN where there is none.
        limit: limit it crossed, NaN where there is none.
        guessed: nobody has reported it; it is concluded from what was measured, which may be wrong itself.
    """

    verdict: Verdict
    code: str
    text: str
    joint: str = ""
    value: float = math.nan
    limit: float = math.nan
    guessed: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """One move on the ladder, or one verdict of a filter while the rung stays.

    Attributes:
        finding: the cause.
        before: rung before.
        after: rung after.
        chunk_sequence: sequence of the chunk concerned, 0 where none is.
    """

    finding: Finding
    before: Ladder
    after: Ladder
    chunk_sequence: int = 0


def worst(findings: tuple[Finding, ...]) -> Finding | None:
    """Return the most severe finding, the first one among equals, or None."""
    return max(findings, key=lambda finding: finding.verdict, default=None)
