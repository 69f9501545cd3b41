# SPDX-License-Identifier: Apache-2.0
"""docs/reference/troubleshooting.md: every cause of a rung, every error, every ending of a task, with a remedy."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from wam.core.ladder import CAUSES, LEFT_BEHIND, may_retreat
from wam.core.verdict import Finding, Ladder, Verdict
from wam.runtime.task import Result

from .codes import all_codes
from .pages import ROOT, StaleEntry, by_hand, foot, head, same_names, sentence, table

CAUSE_FILE, ERROR_FILE = "causes.yaml", "errors.yaml"

INTRODUCTION = """
Where an arm is held or stopped, or a command ends with an error, look for the word that is named: `code` in
`/wam_safety/safety_status` and `/wam_safety/event`, in the log, in `wam audit` and in every report. The text beside it
has the values.

    wam doctor --robot ROBOT      # listens to drivers and cameras, says what prevents each from moving
    wam audit                     # what the safety node did, when and why

Start at the top: machine and domain (`wam doctor`), then drivers, then the nodes' states
(`ros2 lifecycle get /wam_safety`), then the cause. A page for each node: [nodes](nodes.md).
"""

BEGINNINGS = (
    (
        "Before anything moves",
        (
            (
                "`wam doctor` says FAIL",
                "the arrow below the line has the command that mends it",
            ),
            (
                "`ros2 topic list` shows nothing of a demo",
                "a demo has a domain of its own; `WAM_DOMAIN_ID=N make demo` chooses it, `ROS_DOMAIN_ID=N` and "
                "`ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST` in the shell of the tool join it",
            ),
            (
                "a launch file refuses domain 0",
                "`export ROS_DOMAIN_ID=42`, in the driver's shell too ([why](../how-to/secure-a-robot.md))",
            ),
            (
                "`~/context` or images do not come from the other computer",
                "[two computers](../how-to/two-computers.md)",
            ),
            (
                "cameras of the simulated robot do not render",
                "`sudo apt install libegl1 libgl1-mesa-dri`, and no `MUJOCO_GL` that names something else",
            ),
        ),
    ),
)


def page() -> str:
    """Return the page.

    Raises:
        StaleEntry: a cause, error or ending has no entry, or an entry has none of these.
    """
    parts = [head("Troubleshooting"), INTRODUCTION]
    for title, rows in BEGINNINGS:
        parts.append(f"\n## {title}\n\n" + table(("what you see", "what helps"), rows))
    parts.append("\n## Causes of the degrade ladder\n" + _causes())
    errors = by_hand(ERROR_FILE)
    parts.append(
        "\n## Endings of a task\n\n`result` of the ROS action `run_task` "
        "([RunTask](messages.md#runtask)).\n\n" + _endings(errors["endings"])
    )
    parts.append(
        "\n## Errors\n\nA command that cannot run ends with one line, exit code 1, or 3 where this machine refused; in "
        "Python it is one of these classes. The line says what, the value, what is allowed, and where to change it. "
        "A traceback is a bug.\n\n" + _errors(errors["errors"])
    )
    parts.append(foot("the tables of causes and errors in the code, and of what helps in `tools/reference`"))
    return "".join(parts)


def _causes() -> str:
    entries = by_hand(CAUSE_FILE)
    same_names(code=all_codes(), written=entries, file=CAUSE_FILE, what="causes")
    for code, entry in entries.items():
        if sorted(entry) != ["check", "meaning", "remedy"] or not all(entry.values()):
            raise StaleEntry(f"tools/reference/{CAUSE_FILE}: {code} needs meaning, check and remedy")
    text = ""
    for title, about, codes in _sections(entries):
        rows = [
            (f"`{code}`", *(entries[code][key] for key in ("meaning", "check", "remedy"))) for code in codes
        ]
        text += f"\n### {title}\n\n{about}\n\n" + table(("code", "meaning", "check", "remedy"), rows)
    return text


def _sections(entries: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    of_rung = {
        rung: [code for code in entries if code in CAUSES and CAUSES[code].rung is rung] for rung in Ladder
    }
    yield (
        "STOP",
        "Latched: `~/clear_fault` once the cause has gone; before that, "
        "[`~/retreat`](../how-to/leave-a-contact.md) may "
        f"lead the arm back from {_named(code for code in entries if _rung(code) is Ladder.STOP and _way_back(code))}.",
        of_rung[Ladder.STOP],
    )
    yield (
        "HOLD",
        "The arm comes to rest and is held. It goes on by itself when the cause has gone and a valid chunk has come, "
        "unless the table says otherwise.",
        of_rung[Ladder.HOLD],
    )
    yield "SLOW and LATE", "The arm goes on.", [*of_rung[Ladder.SLOW], *of_rung[Ladder.LATE]]
    yield (
        "Verdicts on a chunk or a plan",
        "From a filter, a check or an input's guard. A chunk that is refused moves nothing: the rows at hand go on, "
        "and HOLD follows if none come in time. The event says the verdict: OK, SCALED, CLAMPED, HOLD or STOP.",
        [code for code in entries if code not in CAUSES],
    )


def _rung(code: str) -> Ladder | None:
    """Return the rung of a cause; the verdict STOP of a filter is none of the table's."""
    return CAUSES[code].rung if code in CAUSES else Ladder.STOP if code in LEFT_BEHIND else None


def _way_back(code: str) -> bool:
    verdict = CAUSES[code].verdict if code in CAUSES else Verdict.STOP
    return may_retreat(Finding(verdict, code, ""))


def _named(codes: Iterable[str]) -> str:
    *most, last = (f"`{code}`" for code in codes)
    return f"{', '.join(most)} and {last}"


def _endings(entries: Mapping[str, str]) -> str:
    same_names(code=[one.name for one in Result], written=entries, file=ERROR_FILE, what="endings")
    return table(
        ("result", "", "what helps"), [(f"{one.value}", f"`{one.name}`", entries[one.name]) for one in Result]
    )


def _errors(entries: Mapping[str, str]) -> str:
    tree = dict(drawn_errors())
    same_names(code=tree, written=entries, file=ERROR_FILE, what="errors")
    return table(
        ("error", "meaning", "what helps"),
        [(f"`{name}`", sentence(meaning), entries[name]) for name, meaning in tree.items()],
    )


def drawn_errors() -> Iterator[tuple[str, str]]:
    """Yield name and meaning of every error in the tree that is drawn in wam/core/errors.py."""
    source = (ROOT / "wam" / "core" / "errors.py").read_text(encoding="utf-8")
    drawing = ast.get_docstring(ast.parse(source)) or ""
    for line in drawing.splitlines():
        found = re.match(r"^[ |]*\+-- (\w+)\s+(.*)$", line)
        if found:
            yield found[1], re.sub(r"\s*\(wam\.[\w.]+\)$", "", found[2])
