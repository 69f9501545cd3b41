# SPDX-License-Identifier: Apache-2.0
"""What a viewer's file can hold, as a Protocol: `rerun` writes it, tests look at what they are given."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Points = npt.NDArray[np.float64]

Entity = tuple[str, ...]
"""Path of what is logged, e.g. ("joints", "elbow", "measured")."""

Colour = tuple[int, int, int, int]
"""Red, green, blue, opacity, 0 to 255."""


class LogLevel(enum.Enum):
    """How grave a line of the log is."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Strips:
    """Lines in 3D that stand from one time to the next.

    Attributes:
        time_ns: from when on [ns].
        lines: float64 [K, 3] each [m], in the root link of the robot.
        colours: of each line.
    """

    time_ns: int
    lines: tuple[Points, ...]
    colours: tuple[Colour, ...]


@dataclass(frozen=True, slots=True)
class RobotPose:
    """One robot in the 3D view.

    Attributes:
        name: entity that it stands below.
        urdf: its description, meshes with absolute paths.
        joints: moving joint of the URDF -> float64 [T], positions [rad or m].
        times_ns: int64 [T], of the positions [ns].
        stands_on: name of the robot whose root link its own coincides with; "" for the first.
    """

    name: str
    urdf: str
    joints: Mapping[str, Values]
    times_ns: Times
    stands_on: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the file opens.

    Attributes:
        cameras: entities of the cameras.
        world: entities of the 3D view; none for a robot without a model.
        joints: name of a tab -> names of joints and the entity of each joint's series.
        rung: entity of the rung of the degrade ladder.
        ages: entities of context age and latency.
        log: entity of the text log.
        about: entities of texts that do not change.
    """

    cameras: tuple[Entity, ...]
    world: tuple[Entity, ...]
    joints: Mapping[str, tuple[tuple[str, Entity], ...]]
    rung: Entity
    ages: tuple[Entity, ...]
    log: Entity
    about: tuple[Entity, ...]


class ViewerSink(Protocol):
    """Takes what a replay shows, and writes it to one file. Times are those of the recording's clock [ns]."""

    def style(self, entity: Entity, *, label: str, colour: Colour, width: float, steps: bool = False) -> None:
        """Say how a series is drawn; with `steps`, a value stands until the next."""

    def series(self, entity: Entity, times_ns: Times, values: Values) -> None:
        """Add float64 [T]; NaN breaks the line."""

    def images(self, entity: Entity, times_ns: Sequence[int], jpegs: Sequence[bytes]) -> None:
        """Add JPEG images."""

    def strips(self, entity: Entity, strips: Sequence[Strips], *, frame: str) -> None:
        """Add lines in 3D, in the root link of the robot called `frame`."""

    def robot(self, robot: RobotPose) -> None:
        """Add a robot that moves."""

    def log(
        self, entity: Entity, times_ns: Sequence[int], texts: Sequence[str], levels: Sequence[LogLevel]
    ) -> None:
        """Add lines to a text log."""

    def document(self, entity: Entity, text: str) -> None:
        """Add a text (Markdown) that does not change."""

    def arrange(self, layout: Layout) -> None:
        """Say how the file opens."""

    def close(self) -> None:
        """Write what is left; safe to call twice."""


class LiveSink(ViewerSink, Protocol):
    """Takes what a running robot shows, piece by piece."""

    def move(self, robot: RobotPose) -> None:
        """Go on with a robot that was added before; its URDF is not looked at."""
