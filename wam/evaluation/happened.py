# SPDX-License-Identifier: Apache-2.0
"""What a run came to, in the words that demo, evaluation, replay and scenario share: moved, held, refused, too slow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.words import counted
from wam.evaluation.metrics.basis import AT_REST
from wam.robots.description import JointSpec

PLAIN: Mapping[str, str] = {
    "jump": "beginning too far from where the arm is",
    "collision": "a collision",
    "workspace": "a tool outside its workspace",
    "stop_zone": "a zone that must not be entered",
    "position_limit": "far beyond a position limit",
    "velocity_limit": "too fast for a joint",
    "acceleration_limit": "too sudden for a joint",
    "jerk_limit": "too jerky for a joint",
    "plan_limit": "no way to stop within the limits",
    "non_finite": "a value that is no number",
    "stale_chunk": "all rows in the past",
    "chunk_timeout": "no valid chunk in time",
    "no_chunk_yet": "no chunk yet",
    "rows_exhausted": "rows used up",
    "joint_state_timeout": "no joint state in time",
    "clock_jump": "the clock jumped",
    "clock_paused": "the clock stood still",
    "command_gap": "the command stream was silent",
    "tracking_error": "the arm off its path",
    "executor_lost": "the executor was lost",
    "driver_lost": "the driver was lost",
    "internal_error": "a fault inside the safety node",
}
"""Frequent causes and findings in plain words; the others are told by their code."""

LATENESS = frozenset(
    {"stale_chunk", "chunk_timeout", "rows_exhausted", "clock_jump", "clock_paused", "command_gap"}
)
"""Causes of a hold by which a machine that cannot keep up shows."""

WORTH_SAYING = 0.005
"""A smaller share of the time is not told."""

CAUSES_TOLD = 4
"""Causes of a hold that a sentence tells; pages have them all."""

SLOW_FACTOR = 0.8
"""A run whose simulated time passed more slowly than this is reported as slow."""

LATE_SHARE = 0.1
"""Share of the time held by lateness from which on the time of a chunk is told."""


@dataclass(frozen=True, slots=True)
class MeasuredMotion:
    """The joint that moved most, as measured.

    Attributes:
        joint: its name; "" where nothing was measured.
        amount: between its lowest and its highest position [rad, m or 1].
        share: of its range, 0..1.
        unit: of the amount.
    """

    joint: str
    amount: float
    share: float
    unit: str

    @property
    def moved(self) -> bool:
        """Whether that is more than a joint at rest may show."""
        return self.share >= AT_REST

    def as_json(self) -> dict[str, Any]:
        """Return it for a summary.json."""
        amount, share = round(self.amount, 6), round(self.share, 6)
        return {"moved": self.moved, "joint": self.joint, "amount": amount, "unit": self.unit, "share": share}

    @property
    def text(self) -> str:
        """Return it as a clause."""
        if not self.joint:
            return "whether the robot moved was not measured"
        unit = "" if self.unit == "1" else f" {self.unit}"
        amount = f"{self.joint} by {self.amount:.2g}{unit}, {percent(self.share)} of its range"
        return f"the robot moved ({amount})" if self.moved else f"the robot did not move (most: {amount})"


NOT_MEASURED = MeasuredMotion("", 0.0, 0.0, "")


def motion_of(joints: Sequence[JointSpec], positions: npt.NDArray[np.float64]) -> MeasuredMotion:
    """Return the joint that moved most.

    Args:
        joints: of the columns.
        positions: float64 [T, N], measured [rad, m or 1]; NaN where a joint was not measured.
    """
    if not len(positions) or not joints:
        return NOT_MEASURED
    known = np.where(np.isfinite(positions), positions, np.nan)
    amounts = np.zeros(len(joints))
    seen = np.isfinite(known).any(axis=0)
    amounts[seen] = np.nanmax(known[:, seen], axis=0) - np.nanmin(known[:, seen], axis=0)
    ranges = np.array([joint.upper - joint.lower for joint in joints])
    shares = np.divide(amounts, ranges, out=np.zeros(len(joints)), where=ranges > 0)
    most = int(np.argmax(shares))
    return MeasuredMotion(
        joints[most].name, float(amounts[most]), float(shares[most]), joints[most].kind.unit
    )


def farthest(motions: Sequence[MeasuredMotion | None]) -> MeasuredMotion | None:
    """Return the largest of several motions, None where nothing was measured."""
    known = [one for one in motions if one is not None and one.joint]
    return max(known, key=lambda one: one.share, default=None)


def plain(code: str) -> str:
    """Return a cause or a finding in plain words."""
    return PLAIN.get(code, code.replace("_", " "))


def held_text(share: float, causes: Mapping[str, float]) -> str:
    """Return for how long and by what the robot was held; "" where that was next to never, or nobody could hold it.

    Args:
        share: of the time, 0..1; NaN where there was no safety node.
        causes: cause -> share of the time, the largest first.
    """
    if not share >= WORTH_SAYING:
        return ""
    told = [f"{plain(cause)} {percent(part)}" for cause, part in causes.items() if part >= WORTH_SAYING]
    more = f", and {len(told) - CAUSES_TOLD} more" if len(told) > CAUSES_TOLD else ""
    return f"the robot was held {percent(share)} of the time ({', '.join(told[:CAUSES_TOLD])}{more})"


def refused_text(refused: int, chunks: int) -> str:
    """Return how many chunks the safety node refused; "" for none."""
    return f"{refused} of {chunks} chunks were refused" if refused else ""


def since_first_chunk(events: int) -> str:
    """Return the line under a worst rung: it counts `events` from the first chunk on; before it the robot is held."""
    return f"since the first chunk: {counted(events, 'safety event')}"


def slow_text(factor: float, chunk_ms: float, *, late_share: float, period_ms: float) -> str:
    """Return that the machine was too slow, and by what that shows; "" where it was not.

    Args:
        factor: simulated time divided by wall time.
        chunk_ms: median time of a chunk on the machine [ms].
        late_share: share of the time for which the robot was held by lateness, 0..1.
        period_ms: time between the starts of two chunks that was asked for [ms].
    """
    signs = []
    if factor < SLOW_FACTOR:
        signs.append(f"simulated time passed at {factor:.2f} of real time")
    if late_share >= LATE_SHARE and chunk_ms * factor > period_ms:
        signs.append(f"a chunk took {chunk_ms:.0f} ms, and one is due every {period_ms:.0f} ms")
    return f"this machine was too slow: {'; '.join(signs)}" if signs else ""


def percent(share: float) -> str:
    """Return a share in whole per cent; never rounded to 0 or to 100."""
    value = 100.0 * share
    if 0.0 < value < 0.5:
        return "under 1 %"
    return "over 99 %" if 99.5 <= value < 100.0 else f"{value:.0f} %"
