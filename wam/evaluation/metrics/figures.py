# SPDX-License-Identifier: Apache-2.0
"""Every figure of a replay, computed once; summary, page, terminal and gate read it from here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from wam.core.clock import NS_PER_S
from wam.core.verdict import Ladder
from wam.evaluation.metrics import table
from wam.evaluation.metrics.basis import ReplayBasis
from wam.evaluation.metrics.default_gate import Question
from wam.evaluation.metrics.gate import Gate, GateCheck, GateSource, check_gate, complete_gate
from wam.evaluation.metrics.joints import GroupNumbers, JointNumbers, group_numbers, joint_units
from wam.evaluation.metrics.metric import measure
from wam.evaluation.metrics.unit_errors import UnitErrors, unit_errors
from wam.evaluation.replay.answers import Answers, AnswerWord, answer_questions
from wam.evaluation.replay.data import ReplayData
from wam.evaluation.replay.moments import likeness_moments, safety_moments
from wam.evaluation.replay.sentences import Evidence
from wam.report.statistics import Interval

VERDICTS = {AnswerWord.YES: "pass", AnswerWord.NO: "fail", AnswerWord.UNKNOWN: "cannot be told"}
"""Verdict of the default gate."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a replay came to.

    Attributes:
        metrics: name -> value of every metric that a gate may name; None where the recording does not give it.
        intervals: name -> 95 % interval: bootstrap for means over chunks, Wilson for rates.
        joints: joint -> its figures.
        units: joint -> its unit.
        groups: joint group -> means over its joints.
        unit_errors: errors by joint group and unit.
        answers: whether it would have been safe, and as the person did; by the default gate, whichever gate was given.
        gate_source: where the thresholds come from that decide the verdict.
        checks: every threshold of that gate with what was measured.
        verdict: "fault", "fail", "pass", "cannot be told" (the default gate could not judge), or "not judged".
    """

    metrics: Mapping[str, float | None]
    intervals: Mapping[str, Interval]
    joints: Mapping[str, JointNumbers]
    units: Mapping[str, str]
    groups: Mapping[str, GroupNumbers]
    unit_errors: tuple[UnitErrors, ...]
    answers: Answers
    gate_source: GateSource
    checks: tuple[GateCheck, ...]
    verdict: str

    @property
    def passed(self) -> bool:
        """Whether no threshold failed and the policy was not at fault."""
        return self.verdict not in ("fault", "fail")


def compute_figures(data: ReplayData, gate: Gate | None = None) -> Figures:
    """Return every figure of a replay.

    Args:
        data: the replay.
        gate: what decides the verdict; None takes the default gate.

    Raises:
        ConfigError: the gate names an unknown metric.
    """
    gate = gate or Gate()
    basis = ReplayBasis(data)
    measured = measure(table.METRICS, basis)
    checks = check_gate(complete_gate(gate.thresholds), measured.metrics)
    answers = answer_questions(
        measured.metrics,
        evidence_of(basis),
        {Question.SAFE: safety_moments(basis), Question.LIKE: likeness_moments(basis)},
    )
    units = joint_units(data)
    return Figures(
        metrics=measured.metrics,
        intervals=measured.intervals,
        joints=basis.joints,
        units=units,
        groups=group_numbers(data, basis.joints),
        unit_errors=unit_errors(data.robot, basis.joints, units),
        answers=answers,
        gate_source=gate.source,
        checks=answers.checks if gate.source is GateSource.DEFAULT else checks,
        verdict=_verdict(data, gate, checks, answers),
    )


def evidence_of(basis: ReplayBasis) -> Evidence:
    """Return what the sentences of the answers tell besides the metrics."""
    data, safety, limits = basis.data, basis.collector.safety, basis.collector.limits
    stops: Counter[str] = Counter()
    for (rung, code), count in safety.causes.items():
        if rung is Ladder.STOP:
            stops[code] += count
    joints = data.contract.action_joints
    return Evidence(
        faults=tuple(
            f"{event.node} at {data.seconds(event.time_ns):.2f} s: {event.error}"
            for event in basis.collector.faults
        ),
        unchecked=safety.unchecked,
        refused={code: one.count for code, one in safety.moments.refused.items()},
        stops=dict(stops),
        judged=sum(safety.rungs.values()) * safety.tick_ns / NS_PER_S,
        rows=limits.rows,
        furthest="" if limits.furthest is None else joints[limits.furthest.column],
        joints=len(joints),
        reference=data.reference,
        switching=(basis.switching.recorded, basis.switching.matched),
    )


def _verdict(data: ReplayData, gate: Gate, checks: tuple[GateCheck, ...], answers: Answers) -> str:
    if data.collector.faults:
        return "fault"
    if gate.source is GateSource.NONE:
        return "not judged"
    if gate.source is GateSource.DEFAULT:
        return VERDICTS[answers.reply]
    return "pass" if all(check.passed for check in checks) else "fail"
