# SPDX-License-Identifier: Apache-2.0
"""What a run leaves for its report: plain arrays and core values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.chunk import ActionChunk
from wam.core.context import ContextHeader
from wam.core.verdict import Ladder, Verdict

Stamps = npt.NDArray[np.int64]
Positions = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TopicSeries:
    """Positions of some joints over time: one topic, measured or commanded.

    Attributes:
        name: what the series is, for tables, e.g. "left" (the joint group).
        joint_names: policy-side names, one per column.
        stamps_ns: int64 [T], header stamps [ns], in order of arrival.
        arrivals_ns: int64 [T], when the recorder received each message [ns].
        positions: float64 [T, N]; rad for revolute, m for prismatic joints.
        rate: nominal rate of the topic [Hz].
    """

    name: str
    joint_names: tuple[str, ...]
    stamps_ns: Stamps
    arrivals_ns: Stamps
    positions: Positions
    rate: float

    def __post_init__(self) -> None:
        rows = len(self.stamps_ns)
        if self.positions.shape != (rows, len(self.joint_names)) or len(self.arrivals_ns) != rows:
            raise ValueError(
                f"series {self.name!r} has positions {self.positions.shape} and "
                f"{len(self.arrivals_ns)} arrivals for {rows} stamps and {len(self.joint_names)} joint names"
            )


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """One chunk as it arrived.

    Attributes:
        arrival_ns: when the recorder received it [ns].
        chunk: the chunk.
    """

    arrival_ns: int
    chunk: ActionChunk


@dataclass(frozen=True, slots=True)
class ContextRecord:
    """One planner context as it was announced.

    Attributes:
        arrival_ns: when the recorder received the message [ns].
        header: the context's header.
    """

    arrival_ns: int
    header: ContextHeader


@dataclass(frozen=True, slots=True)
class SafetyRecord:
    """One transition of the degrade ladder or one verdict of the safety chain.

    Attributes:
        stamp_ns: when the safety node decided [ns].
        ladder_from: rung before.
        ladder_to: rung after.
        verdict: severity.
        code: machine-readable cause.
        text: one sentence.
        joint: first offender, or "".
        value: measured value, NaN where there is none.
        limit: limit it crossed, NaN where there is none.
    """

    stamp_ns: int
    ladder_from: Ladder
    ladder_to: Ladder
    verdict: Verdict
    code: str
    text: str
    joint: str = ""
    value: float = math.nan
    limit: float = math.nan
