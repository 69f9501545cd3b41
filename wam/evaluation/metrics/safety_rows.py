# SPDX-License-Identifier: Apache-2.0
"""Rows of what the safety node did, or would have done: verdicts, collisions, rungs of the degrade ladder."""

from __future__ import annotations

from wam.core.verdict import Ladder, Verdict
from wam.evaluation.metrics.metric import Metric, Shown
from wam.evaluation.metrics.rows import Row, count, ladder_share, rate

PAGE, VARIANTS = Shown.PAGE, Shown.VARIANTS

SAFETY: tuple[Row, ...] = (
    count(
        "safety_ok",
        "chunks that the safety node passes unchanged",
        lambda basis: basis.collector.safety.verdicts[Verdict.OK],
        known=lambda basis: basis.is_judged,
    ),
    count(
        "safety_changed",
        "chunks that the safety node slows down or clamps",
        lambda basis: (
            basis.collector.safety.verdicts[Verdict.SCALED] + basis.collector.safety.verdicts[Verdict.CLAMPED]
        ),
        known=lambda basis: basis.is_judged,
    ),
    count(
        "safety_refused",
        "chunks that the safety node refuses (or cannot accept because of a STOP)",
        lambda basis: basis.refused_chunks,
        known=lambda basis: basis.is_judged,
    ),
    rate(
        "safety_refused_rate",
        "share of chunks that the safety node would have refused",
        lambda basis: (basis.refused_chunks, basis.judged_chunks),
        shown=PAGE | VARIANTS,
    ),
    Metric(
        "safety_collisions",
        "chunks into a collision, a zone or out of the workspace",
        "",
        lambda basis: basis.collisions,
        shown=PAGE,
        meaning="chunks with a finding `collision`, `workspace` or `stop_zone` (of a running node: how often it "
        "reported one), within the robot's own model of itself and its surroundings; `null` where these are not "
        "checked",
    ),
    count(
        "safety_holds",
        "how often the degrade ladder went to HOLD",
        lambda basis: basis.entries(Ladder.HOLD),
        known=lambda basis: basis.is_judged,
    ),
    count(
        "safety_stops",
        "how often the degrade ladder went to STOP, which latches",
        lambda basis: basis.entries(Ladder.STOP),
        shown=PAGE,
        known=lambda basis: basis.is_judged,
    ),
    ladder_share(Ladder.NOMINAL, "share of time on NOMINAL, the ladder's first rung", shown=PAGE),
    ladder_share(Ladder.LATE, "share of time on LATE"),
    ladder_share(Ladder.SLOW, "share of time on SLOW"),
    ladder_share(Ladder.HOLD, "share of time on HOLD, the arm standing still", shown=PAGE),
    ladder_share(Ladder.STOP, "share of time on STOP"),
)
