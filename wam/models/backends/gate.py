# SPDX-License-Identifier: Apache-2.0
"""Does a backend compute what the eager stage computes? Judged on inputs that it has not seen.

A backend that was built from one set of inputs may have taken one of them for a constant, left one out, or mixed up
layers, and still agree on that set. So it is asked three times with random inputs, and once more for each input with
that one alone changed: what it changes by has to be what the eager stage changes by. Whole numbers (token ids) change
places among themselves, since others might not exist.

How far results may differ is calibrated on the stage itself: by what its inputs' last digit does to its results, the
last digit of the precision that the backend computes in.
Differences are relative: the L2 norm of the difference over that of the eager result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

RANDOM_SETS = 3
NOISE_FACTOR = 1.5
"""A backend may differ by this much more than the last digit of the inputs makes."""

FLOORS = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 1e-3, torch.float16: 1e-3}
"""Relative difference that is always allowed, by the type of the result."""

VISIBLE = 4.0
"""An input is judged alone if it changes a result by so many times what rounding, or the backend, does."""

FOLLOWS = 0.5
"""How much of the change that one input makes a backend may miss: more is not rounding."""

CONSTANT_SCALE = 0.5
"""Standard deviation of the change of an input that was recorded as a constant, as warm-up does."""

TINY = 1e-30

Stage = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class GateComparison:
    """One result of a stage on one set of inputs.

    Attributes:
        case: what the inputs were.
        place: which of the stage's results.
        difference: relative difference from the eager result.
        allowed: largest difference that passes.
    """

    case: str
    place: int
    difference: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether it is within what is allowed; not a number is not."""
        return self.difference <= self.allowed


@dataclass(frozen=True, slots=True)
class StageVerdict:
    """What the gate found of one stage and one set of shapes.

    Attributes:
        stage: its name.
        comparisons: every comparison made.
        unseen: inputs whose influence is too small to be judged alone, by their place among the tensors.
    """

    stage: str
    comparisons: tuple[GateComparison, ...]
    unseen: tuple[int, ...]

    @property
    def worst(self) -> GateComparison:
        """The comparison that uses up most of what is allowed; the first that is not a number."""
        return max(self.comparisons, key=_used)

    @property
    def passed(self) -> bool:
        """Whether every comparison passed."""
        return all(comparison.passed for comparison in self.comparisons)


def judge_stage(
    stage: str,
    eager: Stage,
    candidate: Stage,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    precision: torch.dtype | None = None,
) -> StageVerdict:
    """Compare a candidate with the eager stage around one set of inputs.

    Args:
        stage: name, for the verdict.
        eager: the stage as it is written.
        candidate: replacement that takes the same arguments.
        args: inputs that both take; tensors of numbers are varied, everything else is kept.
        kwargs: as `args`.
        precision: that the candidate computes in; None for that of the inputs.
    """
    leaves, shape = pytree.tree_flatten((args, kwargs))
    inputs = _StageInputs(leaves, shape)
    sets = [inputs.varied(seed=seed) for seed in range(RANDOM_SETS + 1)]
    base, other = sets[0], sets[-1]
    want = inputs.run(eager, base)
    noise = _differences(inputs.run(eager, inputs.rounded(base, precision)), want)
    floor = FLOORS.get(precision, 0.0) if precision is not None else 0.0
    allowed = [
        NOISE_FACTOR * own + max(FLOORS.get(out.dtype, 0.0), floor)
        for own, out in zip(noise, want, strict=True)
    ]
    comparisons = _compared(
        "the recorded inputs", inputs.run(candidate, leaves), inputs.run(eager, leaves), allowed
    )
    for number, chosen in enumerate(sets[:RANDOM_SETS], start=1):
        case = f"random inputs, set {number}"
        comparisons += _compared(case, inputs.run(candidate, chosen), inputs.run(eager, chosen), allowed)
    seen = [max([own, *(c.difference for c in comparisons if c.place == i)]) for i, own in enumerate(noise)]
    have = inputs.run(candidate, base)
    unseen = []
    for place in inputs.varying:
        changed = inputs.with_one_of(base, other, place)
        alone = [
            GateComparison(f"input {place} alone changed", result, missed, FOLLOWS * moved)
            for result, (missed, moved, answered) in enumerate(
                zip(*_changes(inputs, eager, candidate, changed, want, have), strict=True)
            )
            # An answer that does not change at all is judged where the eager one does by more than its rounding.
            if moved > VISIBLE * (seen[result] if answered else noise[result])
        ]
        comparisons += alone
        if not alone:
            unseen.append(place)
    return StageVerdict(stage, tuple(comparisons), tuple(unseen))


class _StageInputs:
    """The recorded inputs of a stage, and others like them."""

    def __init__(self, leaves: list[Any], shape: pytree.TreeSpec) -> None:
        self._leaves, self._shape = leaves, shape
        self.varying = tuple(i for i, leaf in enumerate(leaves) if _varies(leaf))

    def varied(self, *, seed: int) -> list[Any]:
        """Return inputs around the recorded ones, as spread as those are."""
        generator = torch.Generator().manual_seed(seed)
        return [
            _around(leaf, generator) if i in self.varying else leaf for i, leaf in enumerate(self._leaves)
        ]

    def rounded(self, leaves: list[Any], precision: torch.dtype | None) -> list[Any]:
        """Return the inputs with the last digit of every number changed, or that of a coarser type."""
        return [_next(leaf, precision) if i in self.varying else leaf for i, leaf in enumerate(leaves)]

    def run(self, stage: Stage, leaves: list[Any]) -> list[Tensor]:
        """Return the stage's results for these inputs, flattened."""
        args, kwargs = pytree.tree_unflatten(leaves, self._shape)
        return [leaf.clone() for leaf in pytree.tree_leaves(stage(*args, **kwargs))]

    def with_one_of(self, leaves: list[Any], other: list[Any], place: int) -> list[Any]:
        """Return `leaves` with the one at `place` from `other`."""
        return [*leaves[:place], other[place], *leaves[place + 1 :]]


def _varies(leaf: Any) -> bool:
    if not isinstance(leaf, Tensor) or leaf.numel() == 0 or leaf.dtype == torch.bool or leaf.is_complex():
        return False
    if leaf.is_floating_point():
        return bool(torch.isfinite(leaf).all())
    return bool((leaf != leaf.flatten()[0]).any())


def _around(leaf: Tensor, generator: torch.Generator) -> Tensor:
    if not leaf.is_floating_point():
        order = torch.randperm(leaf.numel(), generator=generator).to(leaf.device)
        return leaf.flatten()[order].view_as(leaf)
    spread = float(leaf.float().std(correction=0))
    noise = torch.randn(leaf.shape, generator=generator) * (spread or CONSTANT_SCALE)
    return (leaf.float() + noise.to(leaf.device)).to(leaf.dtype)


def _next(leaf: Tensor, precision: torch.dtype | None) -> Tensor:
    if not leaf.is_floating_point():
        return leaf
    digit = max(torch.finfo(kind).eps for kind in (leaf.dtype, precision or leaf.dtype))
    # Up and down in turn: a common factor is what a norm takes out again.
    sign = torch.ones(leaf.numel(), device=leaf.device)
    sign[1::2] = -1.0
    return (leaf.float() * (1.0 + digit * sign.reshape(leaf.shape))).to(leaf.dtype)


def _used(comparison: GateComparison) -> float:
    share = comparison.difference / max(comparison.allowed, TINY)
    return share if share == share else float("inf")


def _norm(tensor: Tensor) -> float:
    return float(tensor.double().norm())


def _differences(have: list[Tensor], want: list[Tensor]) -> list[float]:
    return [_norm(a.double() - b.double()) / max(_norm(b), TINY) for a, b in zip(have, want, strict=True)]


def _compared(
    case: str, have: list[Tensor], want: list[Tensor], allowed: list[float]
) -> list[GateComparison]:
    return [
        GateComparison(case, place, difference, limit)
        for place, (difference, limit) in enumerate(zip(_differences(have, want), allowed, strict=True))
    ]


def _changes(
    inputs: _StageInputs,
    eager: Stage,
    candidate: Stage,
    changed: list[Any],
    want: list[Tensor],
    have: list[Tensor],
) -> tuple[list[float], list[float], list[bool]]:
    """Return, for each result, how much of a change the candidate misses, how large it is, and whether it answers.

    Both are relative to the size of the result before the change, which is `want` (eager) and `have` (candidate).
    """
    missed, moved, answered = [], [], []
    for before, mine, after, theirs in zip(
        want, have, inputs.run(eager, changed), inputs.run(candidate, changed), strict=True
    ):
        size = max(_norm(before), TINY)
        own, other = after.double() - before.double(), theirs.double() - mine.double()
        missed.append(_norm(other - own) / size)
        moved.append(_norm(own) / size)
        answered.append(bool(other.any()))
    return missed, moved, answered
