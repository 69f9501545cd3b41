# SPDX-License-Identifier: Apache-2.0
"""A viewer's file that only remembers what it is given."""

from __future__ import annotations

from collections.abc import Sequence

from wam.evaluation.replay.viewer_sink import (
    Colour,
    Entity,
    Layout,
    LogLevel,
    RobotPose,
    Strips,
    Times,
    Values,
)


class RecordingSink:
    """Remembers what a replay shows; see `ViewerSink`."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.styles: dict[Entity, str] = {}
        self.lines: dict[Entity, tuple[Times, Values]] = {}
        self.pictures: dict[Entity, tuple[list[int], list[bytes]]] = {}
        self.fans: dict[Entity, tuple[str, list[Strips]]] = {}
        self.robots: dict[str, RobotPose] = {}
        self.texts: list[tuple[int, str, LogLevel]] = []
        self.documents: dict[Entity, str] = {}
        self.layouts: list[Layout] = []

    def style(self, entity: Entity, *, label: str, colour: Colour, width: float, steps: bool = False) -> None:
        self.styles[entity] = label

    def series(self, entity: Entity, times_ns: Times, values: Values) -> None:
        assert len(times_ns) == len(values)
        self.calls.append("series")
        self.lines[entity] = (times_ns, values)

    def images(self, entity: Entity, times_ns: Sequence[int], jpegs: Sequence[bytes]) -> None:
        self.pictures[entity] = (list(times_ns), list(jpegs))

    def strips(self, entity: Entity, strips: Sequence[Strips], *, frame: str) -> None:
        self.fans[entity] = (frame, list(strips))

    def robot(self, robot: RobotPose) -> None:
        self.robots[robot.name] = robot

    def log(
        self, entity: Entity, times_ns: Sequence[int], texts: Sequence[str], levels: Sequence[LogLevel]
    ) -> None:
        self.texts += zip(times_ns, texts, levels, strict=True)

    def document(self, entity: Entity, text: str) -> None:
        self.documents[entity] = text

    def arrange(self, layout: Layout) -> None:
        self.calls.append("arrange")
        self.layouts.append(layout)

    def close(self) -> None:
        self.calls.append("close")
