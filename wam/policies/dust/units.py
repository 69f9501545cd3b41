# SPDX-License-Identifier: Apache-2.0
"""Conversion between SI units of the robot's joints and the padded, normalised values of the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wam.models.normalisation import FieldStats, Normaliser, NormMode

BINARY_THRESHOLD = 0.5


class StateUnits:
    """Joint state in SI units -> normalised state, padded with zeros.

    Args:
        stats: of the state.
        mode: how it is normalised.
        padded: values of the head.
    """

    def __init__(self, stats: FieldStats, *, mode: NormMode, padded: int) -> None:
        self._norm = Normaliser(stats, mode=mode, clamp=None)
        self._width = stats.width
        self._padded = padded

    def to_model(self, positions: npt.NDArray[np.float64]) -> Tensor:
        """Return float32 [..., padded]."""
        own = self._norm.to_model(positions)
        out = np.zeros((*own.shape[:-1], self._padded), dtype=np.float32)
        out[..., : own.shape[-1]] = own
        return torch.from_numpy(out)

    def to_si(self, states: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return float64 [..., J joints]; padding is dropped."""
        return self._norm.to_si(states[..., : self._width].astype(np.float64))


class ActionUnits:
    """Normalised, padded action rows <-> joint targets in SI units.

    A binary column (a gripper that is open or closed) is 1 above the middle of its range and 0 below; coming
    back, above 0.5 is the upper end of the range and the rest the lower end (GR00T-N1's mode "binary").

    Args:
        stats: of the actions; binary columns need min and max.
        mode: how the other columns are normalised.
        padded: values of the head.
        binary: columns that are binary.
    """

    def __init__(
        self, stats: FieldStats, *, mode: NormMode, padded: int, binary: tuple[int, ...] = ()
    ) -> None:
        self._norm = Normaliser(stats, mode=mode, clamp=None)
        self._width = stats.width
        self._padded = padded
        self._binary = list(binary)
        if binary:
            self._low = stats.to_si(stats.values["min"])[self._binary]
            self._high = stats.to_si(stats.values["max"])[self._binary]

    def to_model(self, rows: npt.NDArray[np.float64]) -> Tensor:
        """Return float32 [..., padded]."""
        own = self._norm.to_model(rows)
        if self._binary:
            above_middle = rows[..., self._binary] - (self._low + self._high) / 2
            # The upper end of the range is the lower position where the column counts against the joint.
            own[..., self._binary] = above_middle * np.sign(self._high - self._low) > 0
        out = np.zeros((*own.shape[:-1], self._padded), dtype=np.float32)
        out[..., : self._width] = own
        return torch.from_numpy(out)

    def to_si(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return float64 [..., N joints]; padding is dropped, nothing is clamped."""
        own = rows[..., : self._width].astype(np.float64)
        out = self._norm.to_si(own)
        if self._binary:
            out[..., self._binary] = np.where(
                own[..., self._binary] > BINARY_THRESHOLD, self._high, self._low
            )
        return out

    def mask(self) -> Tensor:
        """Return 1 for real columns and 0 for padding, float32 [padded]."""
        mask = torch.zeros(self._padded)
        mask[: self._width] = 1
        return mask


@dataclass(frozen=True, slots=True)
class RowUnits:
    """How the numbers of a data set become those of the head, in training.

    Attributes:
        state: of the proprioception.
        action: of the action rows.
        joints: names of the action joints, A.
        columns: state column of each action joint, [A]; None where one is not measured.
        relative: action rows are relative to the state at the start of their chunk.
        state_std: standard deviation of each state joint [J].
    """

    state: StateUnits
    action: ActionUnits
    joints: tuple[str, ...]
    columns: npt.NDArray[np.intp] | None
    relative: bool
    state_std: npt.NDArray[np.float64]

    def still(self, state_B1J: Tensor, *, rows: int) -> npt.NDArray[np.float64]:
        """Return the rows [B, N, A] of a robot that stays where it is, in SI units; NaN where that is not known."""
        shape = (len(state_B1J), rows, len(self.joints))
        if self.relative:
            return np.zeros(shape)
        if self.columns is None:
            return np.full(shape, np.nan)
        measured = self.state.to_si(state_B1J.float().cpu().numpy())[..., self.columns]
        return np.broadcast_to(measured, shape)
