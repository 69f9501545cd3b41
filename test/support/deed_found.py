# SPDX-License-Identifier: Apache-2.0
"""What the judges of sequences of deeds find, and what they measure with."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from motion import target
from tool_speed import ToolSpeedJudge

Rows = npt.NDArray[np.float64]

REDUCED = 0.25
"""Tools in reduced mode and on a way back [m/s]."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that must not be.

    Attributes:
        kind: what.
        tick: when.
        size: how much, in the unit of the kind.
        text: more of it.
    """

    kind: str
    tick: int
    size: float
    text: str = ""


@dataclass(slots=True)
class Found:
    """What came of a run.

    Attributes:
        faults: what must not be.
        retreats: ways back on which the arm moved.
        in_contact: of these, those that began within a margin.
        pushes: times that a joint was above a limit for long enough.
        near: ticks in which the distance to something had to slow the arm.
        worst_near: highest share of the speed that the distance allows.
        worst_tool: highest share of a limit of tool speed.
        measured: ticks in which the measured arm was found where it must not be.
    """

    faults: list[Fault]
    retreats: int = 0
    in_contact: int = 0
    pushes: int = 0
    near: int = 0
    worst_near: float = 0.0
    worst_tool: float = 0.0
    measured: int = 0


@functools.cache
def tools_of(robot: str) -> ToolSpeedJudge:
    """Return the judge of tool speed of a robot."""
    return ToolSpeedJudge(target(robot).robot.source)
