# SPDX-License-Identifier: Apache-2.0
"""The end of a report: what to do next, where the logs are, and what its words mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wam.report.page import Link, Section, Table

WORDS: Mapping[str, str] = {
    "planner context": "what the slow planner made of the newest image and the task text; the executor reads it often",
    "context age": "time since the image of the context that a chunk was made from",
    "chunk": "a few action rows from the executor, each with its time",
    "chunk latency": "time from the start of the executor to its chunk",
    "phase offset": "rows between the image of the context and the first row of a chunk",
    "command jitter": "how far the time between two commands was from what it should be",
    "rung": "state of the degrade ladder: NOMINAL, LATE (rows remain), SLOW (time is stretched), HOLD (the arm stands "
    "until there is a valid chunk), STOP (it stands until an operator clears the fault)",
    "held": "share of the time on HOLD or STOP, by the cause that the safety node reported last",
    "refused": "a chunk that the safety node did not take; the rows of the one before go on until they are used up",
    "moved": "the joint that moved most, as measured: highest less lowest position",
    "stage": "a step of the task; it counts once the one before it has been reached",
    "score": "number of stages reached",
    "contract hash": "names the policy: hash of its description, statistics and weights",
}
"""Word -> its meaning in these reports."""


def words_section(*words: str) -> Section:
    """Return the folded section that explains some words.

    Raises:
        KeyError: a word is not explained.
    """
    rows = tuple((word, WORDS[word]) for word in words)
    return Section("Words on this page", (Table((), rows, text=True),), folded=True)


def next_section(steps: Sequence[tuple[str, str]], *, logs: str = "") -> Section:
    """Return the section with what to do next.

    Args:
        steps: what one may want, and the command for it.
        logs: folder of the logs, relative to the page; "" for none.
    """
    rows: list[tuple[str | Link, ...]] = [*steps]
    if logs:
        rows.append(("what each node wrote", Link(f"{logs}/", f"{logs}/")))
    return Section("What next", (Table((), tuple(rows), text=True),))
