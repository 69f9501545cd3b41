# SPDX-License-Identifier: Apache-2.0
"""What an evaluation came to, in one sentence that page, terminal and summary share."""

from __future__ import annotations

import math

from wam.core.words import counted
from wam.evaluation.closed_loop.scores import Evaluation
from wam.evaluation.closed_loop.table import EvaluationFigures
from wam.evaluation.happened import held_text, refused_text
from wam.report.tone import Tone


def headline(run: Evaluation, figures: EvaluationFigures) -> str:
    """Return one sentence: how many succeeded, and whether the robot moved, was held, and why."""
    episodes = run.episodes
    good, errors = sum(one.success for one in episodes), sum(bool(one.error) for one in episodes)
    still = sum(one.motion is not None and not one.motion.moved for one in episodes)
    total = sum(one.time for one in episodes)
    refused, accepted = sum(one.refused for one in episodes), sum(one.accepted for one in episodes)
    share = figures.scores.metrics["held_share"]
    slow = [one.slow for one in episodes if one.slow]
    told = (
        f"{good} of {counted(len(episodes), 'episode')} succeeded",
        f"{errors} ended in an error" if errors else "",
        f"in {still} of them the robot did not move" if still else "",
        held_text(math.nan if share is None else share, {c: t / total for c, t in figures.held.items()})
        if total
        else "",
        refused_text(refused, refused + accepted),
        f"{slow[0]} (in {counted(len(slow), 'episode')})" if slow else "",
        {"fail": "the gate failed", "pass": "the gate passed"}.get(figures.verdict, ""),
    )
    return "; ".join(one for one in told if one)


def verdict_of(run: Evaluation, figures: EvaluationFigures) -> tuple[Tone, str, tuple[str, ...]]:
    """Return colour, sentence and reasons of the verdict."""
    good = sum(one.success for one in run.episodes)
    text = headline(run, figures)
    reasons = [f"seed {one.seed}: {one.error}" for one in run.episodes if one.error]
    reasons += [
        f"gate: {check.threshold.metric} is {'not known' if check.value is None else f'{check.value:.4g}'}, "
        f"allowed {check.threshold.text()}"
        for check in figures.checks
        if not check.passed
    ]
    state = figures.verdict
    if state in ("fault", "fail"):
        return Tone.BAD, text, (*reasons, *run.warnings)
    if state == "pass":
        return Tone.GOOD, text, run.warnings
    tone = Tone.GOOD if good == len(run.episodes) else Tone.WARN if good else Tone.BAD
    return tone, text, run.warnings
