# SPDX-License-Identifier: Apache-2.0
"""Observed ranges of joints and columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.data.survey.units import ColumnRange, guess_units
from wam.data.survey.values import ColumnSurvey

NEIGHBOURS_S = 0.5
"""Samples further apart than this tell no speed [s]."""

Table = npt.NDArray[np.float64]
Stamps = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ColumnBlock:
    """Consecutive samples of some columns.

    Attributes:
        names: N names.
        times_ns: int64 [T].
        values: float64 [T, N].
    """

    names: tuple[str, ...]
    times_ns: Stamps
    values: Table


def survey_columns(blocks: Sequence[ColumnBlock]) -> tuple[ColumnSurvey, ...]:
    """Return range, speed and guessed unit of every column, in the order in which they are first named."""
    names = list(dict.fromkeys(name for block in blocks for name in block.names))
    found = [_Column(name) for name in names]
    place = {name: i for i, name in enumerate(names)}
    for block in blocks:
        speeds = _speeds(block)
        for at, name in enumerate(block.names):
            found[place[name]].take(block.values[:, at], speeds[:, at])
    guesses = guess_units([ColumnRange(one.name, one.low, one.high, one.integral) for one in found])
    return tuple(
        ColumnSurvey(
            one.name,
            float(one.low),
            float(one.high),
            float(one.speed),
            one.samples,
            one.not_finite,
            guess,
        )
        for one, guess in zip(found, guesses, strict=True)
    )


class _Column:
    def __init__(self, name: str) -> None:
        self.name = name
        self.low = self.high = self.speed = float("nan")
        self.samples = self.not_finite = 0
        self.integral = True

    def take(self, values: Table, speeds: Table) -> None:
        known = values[np.isfinite(values)]
        self.samples += len(values)
        self.not_finite += len(values) - len(known)
        if len(known):
            self.low = float(np.fmin(self.low, known.min()))
            self.high = float(np.fmax(self.high, known.max()))
            self.integral = self.integral and bool(np.all(known == np.round(known)))
        if np.isfinite(speeds).any():
            self.speed = float(np.fmax(self.speed, speeds[np.isfinite(speeds)].max()))


def _speeds(block: ColumnBlock) -> Table:
    """Return the change per second between samples, float64 [T - 1, N]; NaN where they are not neighbours."""
    if len(block.times_ns) < 2:
        return np.empty((0, len(block.names)))
    seconds = np.diff(block.times_ns)[:, None] / NS_PER_S
    near = (seconds > 0) & (seconds <= NEIGHBOURS_S)
    with np.errstate(invalid="ignore"):
        return np.where(near, np.abs(np.diff(block.values, axis=0)) / np.where(near, seconds, 1.0), np.nan)
