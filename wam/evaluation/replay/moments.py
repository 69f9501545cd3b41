# SPDX-License-Identifier: Apache-2.0
"""The worst moments of a replay: when, what, how much; few, so that a person looks at each of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from wam.core.clock import NS_PER_S
from wam.core.verdict import Ladder, Verdict
from wam.evaluation.metrics.basis import ReplayBasis
from wam.evaluation.replay.safety_moments import HeldSpan, Refused

MOST_OF_SAFETY = 6
"""Most moments that answer whether it would have been safe."""

MOST_OF_LIKENESS = 2
"""Most moments that answer whether it would have done what the person did."""

MOST_OF_KIND = 2
"""Most moments of one kind: the third longest hold says little that the first two do not."""

SHORTEST_HOLD = 0.1
"""A shorter time on HOLD is not told [s]: the first tick of every run is one."""

SMALLEST_SHARE = 0.001
"""A smaller part of a joint's range beyond a limit, at a seam or from the reference is not told."""

APART_NS = NS_PER_S
"""Largest errors nearer to one another than this are one moment [ns]."""


class MomentKind(Enum):
    """What kind of moment; the value is the key in summary.json."""

    FAULT = "fault"
    STOP = "stop"
    HOLD = "hold"
    REFUSED = "refused"
    LIMIT = "limit"
    SPEED = "speed"
    SEAM = "seam"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class WorstMoment:
    """One moment worth looking at.

    Attributes:
        kind: what kind.
        seconds: since the start of the recording, without gaps [s].
        text: what happened, one sentence.
        value: how much; NaN where there is no number.
        unit: unit of `value`: s, rad, m, rad/s, m/s, or 1 for a share of the joint's range.
    """

    kind: MomentKind
    seconds: float
    text: str
    value: float
    unit: str


def safety_moments(basis: ReplayBasis) -> tuple[WorstMoment, ...]:
    """Return the worst moments for the arm and what is around it, in order of time."""
    worst = (
        *_faults(basis),
        *_stretches(basis, Ladder.STOP),
        *_stretches(basis, Ladder.HOLD),
        *_refused(basis),
        *_limits(basis),
        *_seams(basis),
    )
    return _in_time(worst[:MOST_OF_SAFETY])


def likeness_moments(basis: ReplayBasis) -> tuple[WorstMoment, ...]:
    """Return when the executed trajectory is furthest from the reference, in order of time."""
    times_ns, _, _ = basis.collector.trajectory()
    share = np.nan_to_num(np.abs(basis.executed_error) / basis.joint_range)
    found: list[WorstMoment] = []
    for _ in range(MOST_OF_LIKENESS):
        if not share.size or share.max() < SMALLEST_SHARE:
            break
        row, column = np.unravel_index(int(share.argmax()), share.shape)
        found.append(_error(basis, int(times_ns[row]), int(row), int(column)))
        share[np.abs(times_ns - times_ns[row]) < APART_NS] = 0.0
    return _in_time(found)


def _faults(basis: ReplayBasis) -> Iterable[WorstMoment]:
    for event in basis.collector.faults[:MOST_OF_KIND]:
        yield _moment(basis, MomentKind.FAULT, event.time_ns, f"The {event.node} failed: {event.error}")


def _stretches(basis: ReplayBasis, rung: Ladder) -> Iterable[WorstMoment]:
    """Give the longest times on a rung."""
    data = basis.data

    def length(one: HeldSpan) -> float:
        return data.seconds(one.end_ns) - data.seconds(one.start_ns)

    found = [one for one in basis.collector.safety.moments.stretches(data.last_ns) if one.rung is rung]
    told = rung is Ladder.STOP
    for one in sorted(found, key=length, reverse=True)[:MOST_OF_KIND]:
        if not told and length(one) < SHORTEST_HOLD:
            return
        why = f" ({one.finding.code}): {one.finding.text}" if one.finding is not None else ""
        kind, word = (MomentKind.STOP, "stopped") if told else (MomentKind.HOLD, "held")
        yield _moment(basis, kind, one.start_ns, f"The arm is {word}{why}", length(one), "s")


def _refused(basis: ReplayBasis) -> Iterable[WorstMoment]:
    """Give the worst chunk of every finding, the gravest and most frequent findings first."""
    refused = basis.collector.safety.moments.refused.values()

    def gravity(one: Refused) -> tuple[Verdict, int]:
        return one.finding.verdict, one.count

    for one in sorted(refused, key=gravity, reverse=True)[:MOST_OF_KIND]:
        finding = one.finding
        text = f"A chunk is refused ({finding.code}, worst of {one.count}): {finding.text}"
        unit = _unit(basis, finding.joint)
        yield _moment(
            basis, MomentKind.REFUSED, one.time_ns, text, finding.value if unit else float("nan"), unit or ""
        )


def _limits(basis: ReplayBasis) -> Iterable[WorstMoment]:
    watch = basis.collector.limits
    names = basis.data.contract.action_joints
    furthest, fastest = watch.furthest, watch.fastest
    if furthest is not None and furthest.share >= SMALLEST_SHARE:
        name = names[furthest.column]
        unit = _unit(basis, name) or ""
        text = (
            f"{name} is sent {_length(abs(furthest.value - furthest.limit), unit)} beyond its limit of "
            f"{_length(furthest.limit, unit)}, {100 * furthest.share:.2g} % of its range"
        )
        excess = abs(furthest.value - furthest.limit)
        yield _moment(basis, MomentKind.LIMIT, furthest.time_ns, text, excess, unit)
    if fastest is not None:
        name = names[fastest.column]
        unit = f"{_unit(basis, name) or ''}/s"
        text = f"{name} is to move {fastest.share:.2g} times as fast as its limit allows, {fastest.limit:.3g} {unit}"
        yield _moment(basis, MomentKind.SPEED, fastest.time_ns, text, fastest.value, unit)


def _seams(basis: ReplayBasis) -> Iterable[WorstMoment]:
    share = np.nan_to_num(basis.jumps / basis.joint_range)
    if not share.size or share.max() < SMALLEST_SHARE:
        return
    row, column = np.unravel_index(int(share.argmax()), share.shape)
    name = basis.data.contract.action_joints[column]
    unit = _unit(basis, name) or ""
    jump = float(basis.jumps[row, column])
    time_ns = basis.collector.execution.seams[row].time_ns
    text = f"One chunk replaces another and the target of {name} jumps by {_length(jump, unit)}"
    yield _moment(basis, MomentKind.SEAM, time_ns, text, jump, unit)


def _error(basis: ReplayBasis, time_ns: int, row: int, column: int) -> WorstMoment:
    name = basis.data.contract.action_joints[column]
    unit = _unit(basis, name) or ""
    error = abs(float(basis.executed_error[row, column]))
    share = error / float(basis.joint_range[column])
    text = (
        f"{name} is {_length(error, unit)} from the {basis.data.reference}, {100 * share:.2g} % of its range"
    )
    return _moment(basis, MomentKind.ERROR, time_ns, text, error, unit)


def _moment(
    basis: ReplayBasis, kind: MomentKind, time_ns: int, text: str, value: float = float("nan"), unit: str = ""
) -> WorstMoment:
    return WorstMoment(kind, max(0.0, round(basis.data.seconds(time_ns), 3)), text, value, unit)


def _in_time(moments: Sequence[WorstMoment]) -> tuple[WorstMoment, ...]:
    return tuple(sorted(moments, key=lambda moment: moment.seconds))


def _unit(basis: ReplayBasis, joint: str) -> str | None:
    """Return the unit of a joint of the robot; None for what is none, such as a pair of links."""
    return next((one.kind.unit for one in basis.data.robot.joints if one.name == joint), None)


def _length(value: float, unit: str) -> str:
    return f"{value:.3g}" + (f" {unit}" if unit not in ("", "1") else "")
