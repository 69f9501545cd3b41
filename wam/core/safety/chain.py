# SPDX-License-Identifier: Apache-2.0
"""The safety chain: filters in order, verdicts combined by the most severe, the first offender kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.errors import ConfigError
from wam.core.safety.filters import Filter, FiniteFilter, JumpFilter, PositionFilter, SlowingFilter, Stage
from wam.core.safety.limits import JointLimits
from wam.core.trajectory.motion import Motion
from wam.core.verdict import Finding, Verdict, worst

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judged:
    """Outcome of the chain.

    Attributes:
        motion: what may be executed; unusable from a verdict of HOLD on.
        findings: what each filter that was not content found, in the chain's order.
    """

    motion: Motion
    findings: tuple[Finding, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The most severe verdict."""
        found = worst(self.findings)
        return Verdict.OK if found is None else found.verdict

    @property
    def refused(self) -> bool:
        """Whether the motion must not be executed."""
        return self.verdict >= Verdict.HOLD


class SafetyChain:
    """Runs filters in order; the first refusal ends the run.

    Args:
        filters: in order.
        off: names of filters that are switched off, each by its own name.

    Raises:
        ConfigError: `off` names a filter that does not exist.
    """

    def __init__(self, filters: tuple[Filter, ...], *, off: tuple[str, ...] = ()) -> None:
        names = [one.name for one in filters]
        for name in off:
            if name not in names:
                raise ConfigError(
                    "filters_off names no filter",
                    value=name,
                    allowed=f"any of {', '.join(names)}",
                    where="the parameter `filters_off` of the safety node",
                )
        self.off = tuple(name for name in names if name in off)
        self._by_stage = {
            stage: tuple(one for one in filters if stage in one.stages and one.name not in off)
            for stage in Stage
        }

    def run(self, motion: Motion, *, stage: Stage, measured: Vector) -> Judged:
        """Judge `motion` at `stage`.

        Args:
            motion: rows of all joints.
            stage: chunk or resampled trajectory.
            measured: float64 [N], newest measured positions.
        """
        findings: list[Finding] = []
        for one in self._by_stage[stage]:
            filtered = one.apply(motion, measured=measured)
            motion = filtered.motion
            if filtered.finding is not None:
                findings.append(filtered.finding)
                if filtered.finding.verdict >= Verdict.HOLD:
                    break
        return Judged(motion, tuple(findings))


def joint_filters(
    limits: JointLimits, *, max_jump: Vector, gross: Vector, paced: npt.NDArray[np.intp], max_scale: float
) -> tuple[Filter, ...]:
    """Return the filters that need joint limits only, in order.

    Args:
        limits: limits of all joints.
        max_jump: float64 [N], see `JumpFilter`.
        gross: float64 [N], see `PositionFilter`.
        paced: intp [n], joints whose speed may slow the whole motion; see `SlowingFilter`.
        max_scale: see `SlowingFilter`.
    """
    slow = limits.select(paced)
    return (
        FiniteFilter(limits.joint_names),
        PositionFilter(limits, gross),
        JumpFilter(limits.joint_names, max_jump),
        SlowingFilter(slow, paced, (1,), max_scale, name="velocity"),
        SlowingFilter(slow, paced, (2,), max_scale, name="acceleration"),
        SlowingFilter(slow, paced, (3,), max_scale, name="jerk"),
    )
