# SPDX-License-Identifier: Apache-2.0
"""One sentence for every check of the default gate, in plain words, with value and limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from wam.core.words import counted
from wam.evaluation.happened import plain
from wam.evaluation.metrics.gate import GateCheck

Metrics = Mapping[str, float | None]

AT_REST = 1e-6
"""Share of its range below which a joint did not move: what is left are the roundings of a recording."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the sentences tell besides the metrics.

    Attributes:
        faults: errors that the policy raised, each with node and time.
        unchecked: why collisions and workspace were not checked; "" where they were.
        refused: finding -> chunks that were refused for it.
        stops: cause of a STOP -> how often.
        judged: time in which the ladder was followed [s].
        rows: rows of all chunks.
        furthest: joint that went furthest beyond a limit; "" for none.
        joints: joints of the policy's action.
        reference: what chunks were compared with, for people.
        switching: openings and closings of grippers: recorded, and of those matched.
    """

    faults: tuple[str, ...] = ()
    unchecked: str = ""
    refused: Mapping[str, int] = field(default_factory=dict)
    stops: Mapping[str, int] = field(default_factory=dict)
    judged: float = 0.0
    rows: int = 0
    furthest: str = ""
    joints: int = 0
    reference: str = "recorded action"
    switching: tuple[int, int] = (0, 0)


def sentence(check: GateCheck, metrics: Metrics, evidence: Evidence) -> str:
    """Return what a check of the default gate came to.

    Raises:
        KeyError: no sentence was written for the metric.
    """
    text = _SENTENCES[check.threshold.metric](check, metrics, evidence)
    return text[0].upper() + text[1:]


def _faults(check: GateCheck, metrics: Metrics, evidence: Evidence) -> str:
    if not evidence.faults:
        return "every value that the policy gave could be used"
    return f"the policy produced what must not reach a robot: {evidence.faults[0]}"


def _stops(check: GateCheck, metrics: Metrics, evidence: Evidence) -> str:
    times = int(check.value or 0)
    if not times:
        return "the arm would never have been stopped for good"
    return f"the arm would have been stopped until an operator clears it, {_times(times)} ({_listed(evidence.stops)})"


def _collisions(check: GateCheck, metrics: Metrics, evidence: Evidence) -> str:
    if check.passed is None:
        return f"collisions cannot be told: {evidence.unchecked}"
    if check.passed:
        return "no chunk led into a collision that the robot's model knows of"
    return (
        f"{_count(check.value, 'chunk')} would have led into a collision, out of the workspace or into a zone"
    )


def _refused(check: GateCheck, metrics: Metrics, evidence: Evidence) -> str:
    if check.value is None:
        return "no chunk was judged by the safety filters"
    refused, chunks = int(metrics["safety_refused"] or 0), judged_chunks(metrics)
    if not refused:
        return f"none of {chunks} chunks would have been refused"
    told = f"{refused} of {chunks} chunks would have been refused, {_percent(check.value)}"
    # The real nodes tell a cause when it begins, not for every chunk: such counts would contradict the sum.
    each = sum(evidence.refused.values()) >= refused
    return f"{told} ({_allowed(check)}): {_listed(evidence.refused, counted=each)}"


def _held(check: GateCheck, metrics: Metrics, evidence: Evidence) -> str:
    if check.value is None:
        return "for how long the arm would have been held is unknown: no chunk was judged"
    seconds = check.value * evidence.judged
    return (
        f"the arm would have been held for {_percent(check.value)} of the time, {seconds:.1f} of "
        f"{evidence.judged:.1f} s ({_allowed(check)})"
    )


def _excess(check: GateCheck, metrics: Metrics, evidence: Evidence) -> str:
    if check.value is None:
        return "no row to hold against the joint limits"
    if not check.value:
        return "every row stays within the joints' position limits"
    rows = int(metrics["rows_beyond_limits"] or 0)
    return (
        f"{rows} of {evidence.rows} rows go beyond a position limit, {evidence.furthest} furthest, by "
        f"{_percent(check.value)} of its range ({_allowed(check)}; the safety node clamps them)"
    )


def _scored(check: GateCheck, metrics: Metrics, evidence: Evidence) -> str:
    scored, least = int(check.value or 0), check.threshold.low or 0
    if not scored:
        return "nothing was recorded that the chunks could be compared with"
    few = "" if check.passed else f", fewer than {least:g}: too few to say anything"
    return f"{_count(scored, 'chunk')} compared with the {evidence.reference}{few}"


def _moved(check: GateCheck, metrics: Metrics, evidence: Evidence) -> str:
    if check.value is None:
        return "how far the person moved the robot is unknown"
    share = _percent(check.value)
    if check.passed:
        return f"the robot was moved, by up to {share} of a joint's range"
    if check.value < AT_REST:
        return "the robot is at rest in this recording: no joint moved"
    return f"the robot is at rest in this recording: no joint moved by more than {share} of its range"


def _reference(check: GateCheck, metrics: Metrics, evidence: Evidence) -> str:
    joints = int(metrics["joints_compared"] or 0)
    told = f"{joints} of {evidence.joints} joints and {_percent(check.value or 0.0)} of all numbers compared"
    if check.passed:
        return told
    return f"too little was recorded to compare with: {told} ({_allowed(check)})"


def _coverage(check: GateCheck, metrics: Metrics, evidence: Evidence) -> str:
    if check.value is None:
        return "no chunk covers any time"
    told = f"the policy had an action for {_percent(check.value)} of the time"
    return told if check.passed else f"{told} ({_allowed(check)}), and none for the rest"


def _skill(check: GateCheck, metrics: Metrics, evidence: Evidence) -> str:
    told = _nearer(check, f"the {evidence.reference}", "standing still")
    recorded, matched = evidence.switching
    if recorded:
        told += f"; {matched} of {recorded} openings and closings of grippers come within 0.3 s"
    return told


def _repeat_skill(check: GateCheck, metrics: Metrics, evidence: Evidence) -> str:
    return _nearer(check, f"the {evidence.reference}", "repeating the last command")


def _nearer(check: GateCheck, what: str, baseline: str) -> str:
    """Return how much nearer than a baseline the chunks are to `what`: 1 - error / error of the baseline."""
    value = check.value
    if value is None:
        return f"whether the chunks come closer to {what} than {baseline} cannot be told"
    if value <= 0:
        return f"{baseline} would come closer to {what}: the chunks have {1 - value:.3g} times its error"
    limit = "" if check.passed else f" ({_allowed(check)})"
    return f"the chunks come closer to {what} than {baseline} would, with {_percent(value)} less error{limit}"


_SENTENCES: Mapping[str, Callable[[GateCheck, Metrics, Evidence], str]] = {
    "policy_faults": _faults,
    "safety_stops": _stops,
    "safety_collisions": _collisions,
    "safety_refused_rate": _refused,
    "safety_hold_share": _held,
    "limit_excess_max": _excess,
    "scored_chunks": _scored,
    "moved": _moved,
    "reference_share": _reference,
    "coverage": _coverage,
    "skill": _skill,
    "repeat_skill": _repeat_skill,
}


def judged_chunks(metrics: Metrics) -> int:
    """Return how many chunks the safety filters judged."""
    return sum(int(metrics[name] or 0) for name in ("safety_ok", "safety_changed", "safety_refused"))


def contexts_and_judged(metrics: Metrics) -> str:
    """Return the number of contexts and, where not every chunk was judged, how many were."""
    contexts, judged = counted(int(metrics["contexts"] or 0), "planner context"), judged_chunks(metrics)
    if not 0 < judged < int(metrics["chunks"] or 0):
        return contexts
    return f"{contexts}; {judged} chunks judged"


def _allowed(check: GateCheck) -> str:
    threshold = check.threshold
    if threshold.high is not None:
        return f"allowed: {_percent(threshold.high)}"
    return f"wanted: at least {_percent(threshold.low or 0.0)}"


def _percent(share: float) -> str:
    """Return a share in per cent with two digits or more; never rounded to 0 or to 100."""
    value = 100.0 * share
    # The distance from 0 and from 100 is what must not be rounded away.
    distance = min(value, 100.0 - value) if value < 100.0 else value
    digits = 1 if distance < 9.95 else 0
    if 0.0 < distance < 0.05:
        digits = -math.floor(math.log10(distance))
    return f"{value:.{digits}f}".removesuffix(".0") + " %"


def _count(value: float | None, noun: str) -> str:
    number = int(value or 0)
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _listed(counts: Mapping[str, int], *, counted: bool = True) -> str:
    """Return up to three findings in plain words, with their counts if asked for, the most frequent first."""
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:3]
    return ", ".join(f"{plain(code)} ({_times(count)})" if counted else plain(code) for code, count in most)
