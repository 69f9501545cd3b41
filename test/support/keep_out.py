# SPDX-License-Identifier: Apache-2.0
"""A safety filter of another package, written as the how-to shows it: no target of a joint may exceed a value."""

from __future__ import annotations

from pathlib import Path

import pytest

SOURCE = """
from dataclasses import dataclass

from wam.core.safety.filters import Filter, Filtered, ChainStage
from wam.core.verdict import Finding, Verdict

MAKES_NOTHING_OF_USE = 3


@dataclass(frozen=True, slots=True)
class KeepOut:
    column: int
    limit: float
    verdict: Verdict = Verdict.STOP
    name: str = "keep_out"
    stages: frozenset = frozenset({ChainStage.TRAJECTORY})

    def apply(self, motion, *, measured):
        highest = float(motion.rows[motion.settled :, self.column].max())
        if highest <= self.limit:
            return Filtered(motion)
        text = f"joint {self.column} would reach {highest:.3f}, limit {self.limit:.3f}"
        return Filtered(motion, Finding(self.verdict, "keep_out", text, "", highest, self.limit))


def make_keep_out(inputs) -> Filter:
    return KeepOut(0, -10.0 * abs(float(inputs.limits.lower[0])) - 100.0)


def make_hold(inputs) -> Filter:
    return KeepOut(0, -1000.0, Verdict.HOLD)


def make_idle(inputs) -> Filter:
    return KeepOut(0, 1000.0)


def make_none(inputs):
    return None


def make_text(inputs):
    return "a filter"


def make_namesake(inputs):
    return KeepOut(0, 1000.0, name="jump")


def fail(inputs):
    raise KeyError("no such zone")
"""


def install_keep_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write the module into `folder`, put it on the import path and return the module's name."""
    name = f"keep_out_{folder.name.replace('-', '_')}"
    (folder / f"{name}.py").write_text(SOURCE, encoding="utf-8")
    (folder / f"{name}_broken.py").write_text("import a_module_that_is_not_there\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    return name
