# SPDX-License-Identifier: Apache-2.0
"""Problems of a recording, as values: how bad, where, what it means for replay and training, what helps."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wam.core.errors import WamError, is_machine_fault


class Severity(enum.Enum):
    """How bad a problem is, worst first."""

    ERROR = "error"
    """`wam replay` and `wam convert` refuse the recording, or would judge it wrongly."""
    WARNING = "warning"
    """The recording can be used; a person should know."""
    NOTE = "note"
    """The suite copes; other tools may not."""


class ProblemKind(enum.Enum):
    """What was checked; the value is what a problem of the kind means for replay and training."""

    FILES = "what is missing or damaged is neither replayed nor trained on"
    MESSAGES = "such messages are refused: replay ends there, and with --lenient goes on without them"
    TOPICS = (
        "streams without a topic: the robot cannot be replayed, nor a bag of it be converted to training data"
    )
    CLOCKS = "images, states and commands of different times are paired, or a stream counts as stale"
    GAPS = "no chunk spans a gap, and training sees a jump"
    JOINTS = "the safety chain would refuse such positions; a policy trained on them learns to command them"
    PUBLISHERS = "the joints that are read are a mixture of two sources"
    ACTION = "chunks are compared with the measured state, or with no reference; no training data comes of it"
    CAMERAS = "a policy that sees this camera cannot be replayed or trained"
    COLUMNS = "nothing tells which column is which joint, in which unit"
    RATE = "rows and images would be taken for times that they are not of"
    LAYOUT = "the recording is read as it was meant; other tools may refuse it"

    @property
    def title(self) -> str:
        """Its name for people and for CI, e.g. "clocks"."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class RecordingProblem:
    """One problem.

    Attributes:
        severity: how bad it is.
        kind: what was checked.
        where: file, topic, stream or episode.
        text: what is wrong, with the value and what is allowed.
        remedy: what helps; "" where nothing is known.
        times: how often it was met.
    """

    severity: Severity
    kind: ProblemKind
    where: str
    text: str
    remedy: str = ""
    times: int = 1

    @property
    def meaning(self) -> str:
        """What it means for replay and training."""
        return self.kind.value

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "severity": self.severity.value,
            "kind": self.kind.title,
            "where": self.where,
            "text": self.text,
            "meaning": self.meaning,
            "remedy": self.remedy,
            "times": self.times,
        }


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What came of a check.

    Attributes:
        path: what was checked.
        what: "recording" or "dataset".
        robot: name of the robot; "" where none was given.
        checked: what was read, for people.
        problems: worst first.
    """

    path: Path
    what: str
    robot: str
    checked: str
    problems: tuple[RecordingProblem, ...]

    def count(self, severity: Severity) -> int:
        """Return the number of problems of a severity."""
        return sum(problem.severity is severity for problem in self.problems)

    @property
    def passed(self) -> bool:
        """Whether no error was found."""
        return not self.count(Severity.ERROR)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "schema": "wam/check/1",
            "path": str(self.path),
            "what": self.what,
            "robot": self.robot or None,
            "checked": self.checked,
            "passed": self.passed,
            **{f"{severity.value}s": self.count(severity) for severity in Severity},
            "problems": [problem.as_json() for problem in self.problems],
        }


class Problems:
    """Collects problems; those that differ only in a file's, an episode's or a row's number are counted as one."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, ...], RecordingProblem] = {}

    def add(
        self,
        severity: Severity,
        kind: ProblemKind,
        where: str,
        text: str,
        *,
        remedy: str = "",
        times: int = 1,
    ) -> None:
        """Add a problem that was met `times` times."""
        key = (severity.value, kind.name, _general(where), _general(text.split(": got ")[0]))
        known = self._found.get(key)
        if known is None:
            self._found[key] = RecordingProblem(severity, kind, where, text, remedy, times)
        else:
            self._found[key] = replace(known, times=known.times + times)

    def refused(
        self,
        kind: ProblemKind,
        where: str,
        error: WamError,
        *,
        severity: Severity = Severity.ERROR,
        times: int = 1,
    ) -> None:
        """Add what a reader refuses; its text is split into what is wrong and what helps.

        Raises:
            WamError: this machine refused (disk, permission), which says nothing about the recording.
        """
        if is_machine_fault(error):
            raise error
        text = str(error).partition("; change it in ")[0]
        self.add(severity, kind, where, text, remedy=error.where or "", times=times)

    def __iter__(self) -> Iterator[RecordingProblem]:
        order = list(Severity)
        return iter(sorted(self._found.values(), key=lambda problem: order.index(problem.severity)))


def _general(text: str) -> str:
    """Return a text without the numbers that tell files, episodes and rows apart."""
    return re.sub(r"(episode[_ ]|file-|chunk-|row )\d+", r"\1N", text)
