# SPDX-License-Identifier: Apache-2.0
"""What a demo run leaves for its report: plain arrays and core values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from wam.core.chunk import ActionChunk
from wam.core.context import ContextHeader
from wam.core.observation import CameraFrame
from wam.core.verdict import Ladder, Verdict
from wam.report.imagined import ImaginedRecord

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


@dataclass(frozen=True, slots=True)
class DemoRecording:
    """Everything that `build_demo_report` shows. All times are on one clock (that of the stamps).

    Attributes:
        robot: name of the robot file, e.g. "piper".
        robot_title: name for people.
        policy: bundle path or built-in name.
        contract_hash: SHA-256 (hex) of the policy bundle.
        instruction: task text in force.
        start_ns: begin of the run [ns].
        end_ns: end of the run [ns].
        measured: joint state, one series per joint group.
        commanded: what the safety node (or, without it, the executor) sent, one series per joint group.
        chunks: chunks in order of arrival.
        contexts: planner contexts in order of arrival.
        safety: safety events in order.
        frames: camera frames for the strip, all cameras mixed, in order of time; a few per camera are enough.
        imagined: what the policy expected its cameras to see, in order of time; a few per camera are enough.
        problems: a sentence for each thing that went wrong (a node died, a topic stayed silent).
        machine: facts of the machine, from `wam.report.machine.machine_info()`.
        settings: further facts worth showing (transport, rates, seed), name -> text.
    """

    robot: str
    robot_title: str
    policy: str
    contract_hash: str
    instruction: str
    start_ns: int
    end_ns: int
    measured: tuple[TopicSeries, ...]
    commanded: tuple[TopicSeries, ...]
    chunks: tuple[ChunkRecord, ...]
    contexts: tuple[ContextRecord, ...]
    safety: tuple[SafetyRecord, ...] = ()
    frames: tuple[CameraFrame, ...] = ()
    imagined: tuple[ImaginedRecord, ...] = ()
    problems: tuple[str, ...] = ()
    machine: Mapping[str, str | int | float] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
