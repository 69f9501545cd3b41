# SPDX-License-Identifier: Apache-2.0
"""Every figure of a replay, computed once; summary, page, terminal and gate read it from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wam.evaluation.metrics import table
from wam.evaluation.metrics.basis import ReplayBasis
from wam.evaluation.metrics.gate import GateCheck, Threshold, check_gate, complete_gate
from wam.evaluation.metrics.joints import GroupNumbers, JointNumbers, group_numbers, joint_units
from wam.evaluation.metrics.metric import measure
from wam.evaluation.replay.data import ReplayData
from wam.report.statistics import Interval


@dataclass(frozen=True, slots=True)
class Figures:
    """What a replay came to.

    Attributes:
        metrics: name -> value of every metric that a gate may name; None where the recording does not give it.
        intervals: name -> 95 % interval: bootstrap for means over chunks, Wilson for rates.
        joints: joint -> its figures.
        units: joint -> its unit.
        groups: joint group -> means over its joints.
        checks: every threshold of the gate with what was measured.
        verdict: "fault", "fail", "pass", or "not judged" where there is no gate.
    """

    metrics: Mapping[str, float | None]
    intervals: Mapping[str, Interval]
    joints: Mapping[str, JointNumbers]
    units: Mapping[str, str]
    groups: Mapping[str, GroupNumbers]
    checks: tuple[GateCheck, ...]
    verdict: str

    @property
    def passed(self) -> bool:
        """Whether no threshold failed and the policy was not at fault."""
        return self.verdict not in ("fault", "fail")


def compute_figures(data: ReplayData, gate: tuple[Threshold, ...] = ()) -> Figures:
    """Return every figure of a replay.

    Args:
        data: the replay.
        gate: thresholds on metrics.

    Raises:
        ConfigError: the gate names an unknown metric.
    """
    basis = ReplayBasis(data)
    measured = measure(table.METRICS, basis)
    checks = check_gate(complete_gate(gate), measured.metrics)
    return Figures(
        metrics=measured.metrics,
        intervals=measured.intervals,
        joints=basis.joints,
        units=joint_units(data),
        groups=group_numbers(data, basis.joints),
        checks=checks,
        verdict=_verdict(data, checks),
    )


def _verdict(data: ReplayData, checks: tuple[GateCheck, ...]) -> str:
    if data.collector.faults:
        return "fault"
    if not checks:
        return "not judged"
    return "pass" if all(check.passed for check in checks) else "fail"
