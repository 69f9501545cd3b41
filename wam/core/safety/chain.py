# SPDX-License-Identifier: Apache-2.0
"""The safety chain: runs filters in order; the most severe verdict counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from wam.core.errors import ConfigError
from wam.core.safety.filters import ChainStage, Filter
from wam.core.trajectory.motion import Motion
from wam.core.turns import pause
from wam.core.verdict import Finding, Verdict, worst

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judged:
    """Outcome of the chain.

    Attributes:
        motion: what may be executed; must not be used if the verdict is HOLD or STOP.
        findings: one per filter whose verdict is not OK, in the chain's order.
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


@runtime_checkable
class KnowsTheArm(Protocol):
    """A filter that judges a motion also by where the arm was: what already was wrong there may be left."""

    def rebase(self, state: Vector) -> None:
        """Note that the arm is seeded at `state`, float64 [N]."""
        ...

    def note(self, state: Vector) -> None:
        """Note that the arm was commanded `state`, float64 [N]."""
        ...


class SafetyChain:
    """Runs filters in order; the first refusal ends the run.

    `run`, `rebase` and `note` are called from one thread.

    Args:
        filters: in order.
        off: names of filters that are switched off.

    Raises:
        ConfigError: two filters have the same name, or `off` names a filter that does not exist.
    """

    def __init__(self, filters: tuple[Filter, ...], *, off: tuple[str, ...] = ()) -> None:
        names = tuple(one.name for one in filters)
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ConfigError(
                "two safety filters have the same name",
                value=repeated[0],
                allowed="a unique name for every filter",
                where="the filter's class, or the parameter `extra_filters` of the safety node",
            )
        for name in off:
            if name not in names:
                raise ConfigError(
                    "filters_off names an unknown filter",
                    value=name,
                    allowed=f"any of {', '.join(names)}",
                    where="the parameter `filters_off` of the safety node",
                )
        self.names = names
        self.off = tuple(name for name in names if name in off)
        self._by_stage = {
            stage: tuple(one for one in filters if stage in one.stages and one.name not in off)
            for stage in ChainStage
        }
        in_force = tuple(one for one in filters if one.name not in off)
        self._knowing = tuple(one for one in in_force if isinstance(one, KnowsTheArm))

    def rebase(self, state: Vector) -> None:
        """Tell the filters that the command stream begins at `state`, float64 [N]."""
        for one in self._knowing:
            one.rebase(state)

    def note(self, state: Vector) -> None:
        """Tell the filters that the arm was commanded `state`, float64 [N]; before each motion that is judged."""
        for one in self._knowing:
            one.note(state)

    def run(self, motion: Motion, *, stage: ChainStage, measured: Vector) -> Judged:
        """Check `motion` at `stage`.

        Args:
            motion: rows of all joints.
            stage: what the rows are.
            measured: float64 [N], newest measured positions.
        """
        findings: list[Finding] = []
        for one in self._by_stage[stage]:
            pause()
            filtered = one.apply(motion, measured=measured)
            motion = filtered.motion
            if filtered.finding is not None:
                findings.append(filtered.finding)
                if filtered.finding.verdict >= Verdict.HOLD:
                    break
        return Judged(motion, tuple(findings))
