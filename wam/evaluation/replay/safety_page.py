# SPDX-License-Identifier: Apache-2.0
"""The report's section about the safety node: its verdicts on the chunks, and the rungs of its ladder."""

from __future__ import annotations

import itertools

from wam.core.verdict import Ladder, Verdict
from wam.evaluation.replay.data import ReplayData
from wam.evaluation.replay.safety_events import SafetySource
from wam.report.ladder import ladder_drawing
from wam.report.page import Chart, Charts, Section, Table, number

INTROS = {
    SafetySource.OFFLINE_FILTERS: "Measured by the offline filters: the safety node's own cycle, dry, on the "
    "recording's clock and with the recorded joint states. A latched stop is cleared after 1 s, so that later chunks "
    "are judged too.",
    SafetySource.LIVE_NODE: "Measured by the live node: the running safety node (dry run) reported these events, "
    "verdict counts and commands. It reports a repeated finding only after 1 s without it, so findings count reports, "
    "not chunks.",
    SafetySource.NOBODY: "Nothing was judged: ",
}
"""Introduction of the section by the source of the figures."""


def safety_section(data: ReplayData) -> Section | None:
    """Return the section, or None where there was no chunk to judge."""
    safety = data.collector.safety
    if safety.source is SafetySource.NOBODY:
        return Section("Safety node", (), intro=f"{INTROS[safety.source]}{safety.unchecked}.")
    if not safety.verdicts:
        return None
    chunks = Table(("verdict", "chunks"), tuple((one.name, str(safety.verdicts[one])) for one in Verdict))
    seconds = safety.tick_ns * 1e-9
    rungs = Table(
        ("rung", "time [s]", "share"),
        tuple(
            (rung.name, number(safety.rungs[rung] * seconds), f"{100 * safety.share(rung):.1f} %")
            for rung in Ladder
        ),
    )
    blocks: tuple[Table | Charts, ...] = (_ladder_chart(data), chunks, rungs)
    if safety.codes:
        rows = tuple((code, str(count), safety.examples[code]) for code, count in safety.codes.most_common())
        blocks += (
            Table(
                (
                    "finding",
                    "reports" if safety.source is SafetySource.LIVE_NODE else "chunks",
                    "for example",
                ),
                rows,
                text=True,
            ),
        )
    if safety.causes:
        rows = tuple(
            (rung.name, str(count), safety.examples[code])
            for (rung, code), count in safety.causes.most_common()
        )
        blocks += (Table(("rung", "times", "for example"), rows, text=True),)
    unchecked = f" Collisions and workspace were not checked: {safety.unchecked}." if safety.unchecked else ""
    return Section("Safety node", blocks, intro=INTROS[safety.source] + unchecked)


def _ladder_chart(data: ReplayData) -> Charts:
    """Return the rungs over time, from the first chunk on."""
    moves = [
        # Every run begins in HOLD.
        (0.0, Ladder.HOLD),
        *((data.seconds(time_ns), rung) for time_ns, rung in data.collector.safety.moves),
    ]
    end = data.duration
    spans = [
        (start, following, rung)
        for (start, rung), (following, _) in itertools.pairwise([*moves, (end, Ladder.HOLD)])
    ]
    return Charts((Chart("rung of the degrade ladder", ladder_drawing(spans, end=end)),), wide=True)
