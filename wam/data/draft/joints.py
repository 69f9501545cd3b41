# SPDX-License-Identifier: Apache-2.0
"""Joints of a draft: limits from a URDF or from what was observed, kinds and units as guesses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wam.data.draft.names import distinct, legal
from wam.data.draft.values import UNKNOWN_LIMIT, DraftJoint, DraftLimit, LimitOrigin
from wam.data.survey.units import ColumnRange, UnitGuess, guess_units
from wam.robots.description import GRIPPER_WORDS, JointKind
from wam.robots.urdf import UrdfJoint

WIDER = 0.05
"""Share of the observed range by which a draft's limits are wider, at either end."""

LEAST_SPAN = {JointKind.REVOLUTE: 0.1, JointKind.PRISMATIC: 0.01, JointKind.RATIO: 0.1}
"""Range of a joint that stood still in the recording [rad, m or 1]."""

FASTER = 1.2
LEAST_SPEED = 0.01
DIGITS = 4

_FACTORS = {"deg": 0.017453, "mm": 0.001, "percent": 0.01, "0..100": 0.01, "ticks": 0.0015340}
"""Unit -> factor to rad, m or 1 that `conversion` of a robot file would hold; a tick is 1/4096 of a turn."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What a recording shows of a joint, in its own unit.

    Attributes:
        name: as recorded.
        low: smallest position; NaN for none.
        high: largest position; NaN for none.
        speed: fastest change per second; NaN for none.
    """

    name: str
    low: float
    high: float
    speed: float


def draft_joints(
    observed: Sequence[Observed], model: Mapping[str, UrdfJoint], *, prefix: str = ""
) -> tuple[DraftJoint, ...]:
    """Return the joints of one group.

    Args:
        observed: in the order in which they were recorded.
        model: joints of the URDF by name; empty without one. Those with the group's prefix come first.
        prefix: of the group.
    """
    ranges = [
        ColumnRange(one.name, one.low, one.high, _is_whole(one.low) and _is_whole(one.high))
        for one in observed
    ]
    names = distinct(legal(one.name, otherwise="joint") for one in observed)
    return tuple(
        _joint(one, name, guess, model.get(prefix + name) or model.get(one.name))
        for one, name, guess in zip(observed, names, guess_units(ranges), strict=True)
    )


def urdf_joint(joint: UrdfJoint) -> DraftJoint:
    """Return a joint that nothing is known of but the URDF."""
    kind = JointKind.PRISMATIC if joint.kind == "prismatic" else JointKind.REVOLUTE
    return DraftJoint(
        driver_name=joint.name,
        name=legal(joint.name, otherwise="joint"),
        kind=kind,
        lower=_of_urdf(joint.lower),
        upper=_of_urdf(joint.upper),
        velocity=_of_urdf(joint.velocity),
        effort=joint.effort,
    )


def _joint(observed: Observed, name: str, guess: UnitGuess, model: UrdfJoint | None) -> DraftJoint:
    kind = _kind(observed, guess, model)
    low, high = _widened(observed, kind)
    lower, upper = DraftLimit(LimitOrigin.OBSERVED, low), DraftLimit(LimitOrigin.OBSERVED, high)
    speed = max(LEAST_SPEED, FASTER * observed.speed if observed.speed > 0 else 0.0)
    velocity = DraftLimit(LimitOrigin.OBSERVED, _rounded(speed, up=True))
    remarks: list[str] = []
    if model is not None:
        if math.isfinite(model.lower) and math.isfinite(model.upper) and model.lower < model.upper:
            lower, upper = _of_urdf(model.lower), _of_urdf(model.upper)
            if observed.low < model.lower or observed.high > model.upper:
                remarks.append(
                    f"the recording leaves the URDF's limits: {observed.low:.4g} .. {observed.high:.4g}"
                )
        if math.isfinite(model.velocity) and model.velocity > 0:
            velocity = _of_urdf(model.velocity)
    if observed.low == observed.high:
        remarks.append("it stood still in the recording")
    return DraftJoint(
        driver_name=observed.name,
        name=name,
        kind=kind,
        lower=lower,
        upper=upper,
        velocity=velocity,
        effort=model.effort if model is not None else math.inf,
        remarks=(*remarks, *_unit(guess, kind)),
    )


def _kind(observed: Observed, guess: UnitGuess, model: UrdfJoint | None) -> JointKind:
    if model is not None:
        return JointKind.PRISMATIC if model.kind == "prismatic" else JointKind.REVOLUTE
    if not any(word in observed.name.lower() for word in GRIPPER_WORDS):
        return JointKind.REVOLUTE
    return {"share": JointKind.RATIO, "m": JointKind.PRISMATIC}.get(guess.unit, JointKind.REVOLUTE)


def _widened(observed: Observed, kind: JointKind) -> tuple[float, float]:
    low, high = observed.low, observed.high
    if math.isnan(low):
        return -1.0, 1.0
    by = max(WIDER * (high - low), 0.5 * (LEAST_SPAN[kind] - (high - low)))
    return _rounded(low - by, up=False), _rounded(high + by, up=True)


def _rounded(value: float, *, up: bool) -> float:
    """Return a number of few digits that is not below (`up`), or not above."""
    if value == 0.0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(abs(value))) - DIGITS + 1)
    number = math.ceil(value / step) if up else math.floor(value / step)
    return float(f"{number * step:.{DIGITS}g}")


def _is_whole(value: float) -> bool:
    return math.isfinite(value) and value == round(value)


def _of_urdf(value: float) -> DraftLimit:
    return DraftLimit(LimitOrigin.URDF, value) if math.isfinite(value) else UNKNOWN_LIMIT


def _unit(guess: UnitGuess, kind: JointKind) -> tuple[str, ...]:
    """Return a remark on the unit, where it may be another than that of the kind."""
    if guess.unit in (kind.unit, "") or (kind is JointKind.RATIO and guess.unit == "share"):
        return () if guess.unit else (f"unit not known: {guess.reason}",)
    told = f"{guess.text[:-1]} are likely ({guess.reason})"
    factor = _FACTORS.get(guess.unit)
    if factor is None:
        return (told,)
    return (
        f"{told}: if so, give the limits in {kind.unit}, and "
        f"conversion: {{state: {factor:g}, command: {1.0 / factor:g}}}",
    )
