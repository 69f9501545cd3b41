# SPDX-License-Identifier: Apache-2.0
"""Rows of the run itself: contexts, chunks and their times, refusals, losses, faults of the policy."""

from __future__ import annotations

from wam.evaluation.metrics.metric import Metric, Shown
from wam.evaluation.metrics.rows import Row, count, rate, spread
from wam.evaluation.replay.engine import EXECUTOR, PLANNER

PAGE, TERMINAL, VARIANTS = Shown.PAGE, Shown.TERMINAL, Shown.VARIANTS

RUN: tuple[Row, ...] = (
    count("contexts", "planner contexts that came out", lambda basis: basis.collector.contexts),
    count("chunks", "chunks that came out", lambda basis: basis.collector.chunks),
    count("scored_chunks", "chunks that could be compared", lambda basis: len(basis.scores)),
    Metric(
        "context_rate_hz",
        "planner contexts per second of the recording",
        "Hz",
        lambda basis: basis.per_second(basis.collector.contexts),
    ),
    Metric(
        "chunk_rate_hz",
        "chunks per second of the recording",
        "Hz",
        lambda basis: basis.per_second(basis.collector.chunks),
    ),
    count(
        "deadline_misses",
        "chunks that took longer than one executor period, so that the next one started late",
        lambda basis: basis.collector.deadline_misses,
    ),
    rate(
        "deadline_miss_rate",
        "share of chunks that took longer than one executor period",
        lambda basis: (basis.collector.deadline_misses, basis.collector.chunks),
    ),
    count(
        "planner_refusals",
        "planner cycles that gave no context",
        lambda basis: basis.refusals(PLANNER),
    ),
    count(
        "executor_refusals",
        "executor cycles that gave no chunk",
        lambda basis: basis.refusals(EXECUTOR),
    ),
    count(
        "refused_messages",
        "messages that the ingest refused: damaged images, and with `--lenient` those that do not fit",
        lambda basis: basis.data.refused_messages,
    ),
    Metric(
        "lost_share",
        "share of the recorded messages that could not be used",
        "1",
        lambda basis: basis.data.lost_share,
        shown=PAGE,
        meaning="share of the messages of the topics read that were lost: cut off, damaged, not decodable "
        "(`recording.losses`); those of which it is not known how many there were are not in it",
    ),
    count("policy_faults", "errors that the policy raised", lambda basis: len(basis.collector.faults)),
    *spread(
        "context_age_{}_s",
        "context age at the chunk: image of the chunk minus image of its context",
        "s",
        lambda basis: basis.collector.context_age_ns,
        scale=1e-9,
        p50=TERMINAL | VARIANTS,
    ),
    *spread(
        "image_to_chunk_{}_s",
        "image stamp to chunk out",
        "s",
        lambda basis: basis.collector.image_to_chunk_ns,
        scale=1e-9,
    ),
    *spread(
        "phase_offset_{}_rows",
        "phase offset: rows between the context's image and row 0",
        "rows",
        lambda basis: basis.collector.phase_offset_rows,
        p50=TERMINAL,
    ),
)
