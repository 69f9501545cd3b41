# SPDX-License-Identifier: Apache-2.0
"""The verdict of a replay's page, and the table of the gate that it comes from."""

from __future__ import annotations

from collections.abc import Sequence

from wam.evaluation.metrics.default_gate import DEFAULT_GATE
from wam.evaluation.metrics.figures import Figures
from wam.evaluation.metrics.gate import GateCheck, GateSource
from wam.evaluation.replay.data import ReplayData
from wam.report.page import Section, Table, number
from wam.report.tone import Tone

DEFAULT_VERDICTS = {
    "pass": (Tone.GOOD, "Passed by the default gate"),
    "fail": (Tone.BAD, "Failed by the default gate"),
    "cannot be told": (Tone.PLAIN, "The default gate cannot judge this replay"),
}
OWN_GATE = "set your own thresholds with --gate FILE"
MAX_REMARKS = 6


def headline_of(data: ReplayData, figures: Figures) -> tuple[Tone, str, tuple[str, ...]]:
    """Return colour, sentence and reasons of the verdict."""
    tone, text, reasons = _headline_of(data, figures)
    if not data.stopped:
        return tone, text, reasons
    # A part of a recording may fail, but does not pass for the whole.
    return Tone.WARN if tone is Tone.GOOD else tone, f"Stopped before the end. {text}", reasons


def _headline_of(data: ReplayData, figures: Figures) -> tuple[Tone, str, tuple[str, ...]]:
    remarks = data.warnings[:MAX_REMARKS]
    checks = figures.checks
    if figures.verdict == "fault":
        return (
            Tone.BAD,
            "The policy produced what must not reach a robot",
            tuple(
                f"{event.node} at {data.seconds(event.time_ns):.2f} s: {event.error}"
                for event in data.collector.faults
            ),
        )
    if figures.gate_source is GateSource.NONE:
        return Tone.PLAIN, "Not judged: --gate none", remarks
    if figures.gate_source is GateSource.DEFAULT:
        tone, sentence = DEFAULT_VERDICTS[figures.verdict]
        return tone, sentence, remarks
    failed = [check for check in checks if not check.passed]
    if failed:
        return (
            Tone.BAD,
            f"Gate failed: {len(failed)} of {len(checks)} thresholds",
            tuple(
                f"{check.threshold.metric} is {cell(check.value)}, allowed {check.threshold.text()}"
                for check in failed
            ),
        )
    return Tone.GOOD, f"Gate passed: all {len(checks)} thresholds ({_compared(data, figures)})", remarks


def gate_section(figures: Figures) -> Section | None:
    """Return the table of the gate that decided; None where nothing did."""
    if figures.gate_source is GateSource.NONE:
        return None
    if figures.gate_source is GateSource.FILE:
        cells = tuple(_cells(check) for check in figures.checks)
        return Section("Gate", (Table(("metric", "allowed", "measured", ""), cells, text=True),))
    columns = ("metric", "allowed", "measured", "", "why")
    return Section(
        "Default gate",
        (Table(columns, _with_why(figures.checks), text=True, last_is_detail=True),),
        intro=f"No gate was given: both answers above come from these thresholds; {OWN_GATE}.",
        folded=True,
    )


def cell(value: float | None) -> str:
    """Return a figure for a cell: a whole number as such."""
    if value is None:
        return "–"
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e6 else number(value)


def _with_why(checks: Sequence[GateCheck]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (*_cells(check), criterion.why) for criterion, check in zip(DEFAULT_GATE, checks, strict=True)
    )


def _cells(check: GateCheck) -> tuple[str, str, str, str]:
    return check.threshold.metric, check.threshold.text(), cell(check.value), check.word


def _compared(data: ReplayData, figures: Figures) -> str:
    """Return how much of the chunks the figures speak of."""
    share, joints = figures.metrics["reference_share"], figures.metrics["joints_compared"]
    wanted = len(data.contract.action_joints)
    return f"{joints:.0f} of {wanted} joints compared, {100 * (share or 0):.0f} % of all rows"
