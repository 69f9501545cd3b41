# SPDX-License-Identifier: Apache-2.0
"""`wam bench fuzz`: mutated messages of every type that the nodes subscribe to, through guard, reader and store.

A case is a serialized message with bytes changed, removed or inserted, from a seed. It takes the way of a message from
DDS: the callback of a guarded subscription, deserialization, and what the node does with it. An exception that leaves
the guard would end a node; one that the suite has not foreseen is counted apart, since a refusal then is luck.

Messages come in batches of one type. A batch follows from the seed, the type and its number, and begins with a store
that has seen nothing, so that a campaign that is taken up again finds what one in one go does.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wam.bench import Announce
from wam.bench.ledger import fingerprint, open_ledger
from wam.bench.progress import RunsLeft
from wam.bench.result import Bar, BenchResult

CASES = 100_000
BATCH = 20_000
"""Messages of one type that are noted at once."""

FUZZED = ("core", "robots", "ros", "runtime", "devices", "bench")
"""Folders below `wam` whose code a message meets."""

MAX_NOTES = 20
BARS = {
    "fuzz_escapes": Bar(0.0),
    "fuzz_unforeseen": Bar(0.0),
    "fuzz_peak_rss_mb": Bar(500.0),
}


def run(
    stage: Announce,
    *,
    cases: int = CASES,
    per_type: int | None = None,
    seed: int = 1,
    resume: Path | None = None,
) -> BenchResult:
    """Run the campaign.

    Args:
        stage: called as it goes on.
        cases: mutated messages, over all types.
        per_type: mutated messages of each type, instead of `cases`.
        seed: of the mutations.
        resume: file of what is finished: what is in it is not run again.

    Raises:
        ConfigError: `resume` holds parts of another campaign.
    """
    # Needs ROS 2, which the list of benches must not.
    from wam.bench.fuzz_targets import TARGETS, silent

    names = list(TARGETS)
    counts = {
        name: cases // len(names) + (number < cases % len(names)) if per_type is None else per_type
        for number, name in enumerate(names)
    }
    batches = sorted(
        (
            (name, first, min(BATCH, count - first))
            for name, count in counts.items()
            for first in range(0, count, BATCH)
        ),
        key=lambda batch: batch[1],
    )
    progress = RunsLeft(counts, 1)
    root = Path(__file__).parents[1]
    campaign: dict[str, str | int] = {
        "bench": "fuzz",
        "seed": seed,
        "code": fingerprint([root / one for one in FUZZED]),
    }
    with open_ledger(resume, campaign) as ledger, silent():
        for name, first, count in batches:
            part = f"{name} {first} {count}"
            if (found := ledger.done.get(part)) is not None:
                progress.had(name, count, found["seconds"])
                continue
            found = _batch(name, f"{seed} {first}", count)
            ledger.add(part, found)
            progress.ran(name, count, found["seconds"])
            stage(progress.text())
        done: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for name, first, count in batches:
            done[name].append(ledger.done[f"{name} {first} {count}"])
    return summary(done)


def _batch(name: str, seed: str, count: int) -> dict[str, Any]:
    """Deliver `count` messages of the type called `name` and return what became of them."""
    from wam.bench.fuzz_targets import TARGETS

    target, escapes = TARGETS[name](seed), 0
    notes: list[str] = []
    began = time.process_time()
    for _ in range(count):
        try:
            target.case()
        except Exception as error:  # the count of these is the result
            escapes += 1
            if len(notes) < MAX_NOTES:
                notes.append(f"{name}: {type(error).__name__}: {error}")
    return {
        "count": count,
        "seconds": round(time.process_time() - began, 3),
        "escapes": escapes,
        "unforeseen": target.unforeseen,
        "accepted": target.accepted,
        "refused": target.refused,
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "notes": [*notes, *target.traces],
    }


def summary(done: Mapping[str, list[dict[str, Any]]]) -> BenchResult:
    """Return the result of a campaign: name of a type -> its finished batches."""
    found = [one for parts in done.values() for one in parts]
    cases, seconds = sum(one["count"] for one in found), sum(one["seconds"] for one in found)
    results = {
        "fuzz_cases": float(cases),
        "fuzz_escapes": float(sum(one["escapes"] for one in found)),
        "fuzz_unforeseen": float(sum(one["unforeseen"] for one in found)),
        "fuzz_peak_rss_mb": max((one["peak_rss_mb"] for one in found), default=0.0),
        "fuzz_cases_per_s": round(cases / max(seconds, 1e-9), 1),
    }
    for name, parts in done.items():
        took = sum(one["seconds"] for one in parts)
        results[f"fuzz_{name}_accepted"] = float(sum(one["accepted"] for one in parts))
        results[f"fuzz_{name}_refused"] = float(sum(one["refused"] for one in parts))
        results[f"fuzz_{name}_per_s"] = round(sum(one["count"] for one in parts) / max(took, 1e-9), 1)
    notes = [note for one in found for note in one["notes"]]
    return BenchResult(results, BARS, tuple(notes[:MAX_NOTES]))
