# SPDX-License-Identifier: Apache-2.0
"""Errors that forgive timing: dynamic time warping of chunks, and agreement about when grippers open and close."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[np.float64]
Stamps = npt.NDArray[np.int64]

SWITCH_TOLERANCE_NS = 300_000_000
"""A gripper that opens or closes this much earlier or later than recorded still agrees with it [ns]."""

LEAST_SPAN = 0.1
"""Share of its range that a gripper must have moved in a recording for its own span to count."""

HYSTERESIS = 0.1
"""Share of a joint's range about its middle within which it is neither open nor closed."""


def warped_l1(rows: Table, truth: Table) -> float:
    """Return the mean absolute error along the best monotonic matching of two sequences (Sakoe and Chiba 1978).

    Args:
        rows: float64 [H, N].
        truth: float64 [K, N], finite.
    """
    cost = np.abs(rows[:, None, :] - truth[None, :, :]).mean(axis=2)
    # Lists: a number of an array takes as long to reach as ten of a list, and every cell needs the one before it.
    total = [0.0] + [math.inf] * len(truth)
    steps = [0] * (len(truth) + 1)
    for line in cost.tolist():
        above, above_steps = total, steps
        here, taken = math.inf, 0
        total, steps = [here], [taken]
        for j, step_cost in enumerate(line):
            best, count = above[j], above_steps[j]
            if above[j + 1] < best:
                best, count = above[j + 1], above_steps[j + 1]
            if here < best:
                best, count = here, taken
            here, taken = best + step_cost, count + 1
            total.append(here)
            steps.append(taken)
    return total[-1] / steps[-1]


@dataclass(frozen=True, slots=True)
class SwitchAgreement:
    """How far two trajectories agree about when grippers open and close.

    Attributes:
        recorded: openings and closings in the reference.
        predicted: openings and closings of the policy.
        matched: pairs of the same joint and direction, near in time.
    """

    recorded: int
    predicted: int
    matched: int

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN where neither has an event."""
        both = self.recorded + self.predicted
        return 2.0 * self.matched / both if both else float("nan")


def switch_agreement(
    times_ns: Stamps,
    targets: Table,
    truth: Table,
    *,
    lower: Table,
    upper: Table,
    tolerance_ns: int = SWITCH_TOLERANCE_NS,
) -> SwitchAgreement:
    """Compare when the joints of two trajectories cross the middle of their range.

    Args:
        times_ns: int64 [T].
        targets: float64 [T, N] of the policy; NaN where it gave none.
        truth: float64 [T, N] of the reference.
        lower: float64 [N], lower ends of the spans in which the joints move.
        upper: float64 [N], upper ends.
        tolerance_ns: largest distance in time of a pair [ns].
    """
    recorded = predicted = matched = 0
    for i in range(targets.shape[1]):
        ours = switches(times_ns, targets[:, i], lower[i], upper[i])
        theirs = switches(times_ns, truth[:, i], lower[i], upper[i])
        recorded += len(theirs)
        predicted += len(ours)
        left = list(theirs)
        for time_ns, opens in ours:
            near = [e for e in left if e[1] == opens and abs(e[0] - time_ns) <= tolerance_ns]
            if near:
                left.remove(min(near, key=lambda e: abs(e[0] - time_ns)))
                matched += 1
    return SwitchAgreement(recorded, predicted, matched)


def recorded_span(truth: Table, lower: float, upper: float) -> tuple[float, float]:
    """Return least and largest position of a gripper in a recording, between which it opens and closes.

    Objects stop a gripper and many use a part of its travel. A joint that hardly moved keeps its limits: noise is no
    opening.

    Args:
        truth: float64 [T], NaN where unknown.
        lower: lower limit.
        upper: upper limit.
    """
    known = truth[~np.isnan(truth)]
    if not known.size or np.ptp(known) < LEAST_SPAN * (upper - lower):
        return lower, upper
    return float(known.min()), float(known.max())


def switches(times_ns: Stamps, values: Table, lower: float, upper: float) -> list[tuple[int, bool]]:
    """Return when a joint crosses the middle of its range, and whether upwards; small wavering does not count."""
    middle, half = (lower + upper) / 2, HYSTERESIS * (upper - lower)
    found: list[tuple[int, bool]] = []
    state: bool | None = None
    for time_ns, value in zip(times_ns.tolist(), values.tolist(), strict=True):
        if not (value > middle + half or value < middle - half):
            continue
        above = value > middle
        if state is not None and above != state:
            found.append((time_ns, above))
        state = above
    return found
