# SPDX-License-Identifier: Apache-2.0
"""How far predicted action rows are from recorded ones, in SI units, per joint and step of the horizon.

A loss in a network's own units says nothing about a robot, and cannot be compared between policies. Here rows are
sampled as at deployment and compared with what was recorded on episodes that were not trained on. Beside it stands what
a policy that leaves the robot where it is would get.

Shapes: B samples, N rows, A action joints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ERROR_NAME = "action_error.json"
SAMPLES = 256
"""Most samples that are compared: each costs a whole chunk."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PredictedRows:
    """Action rows of a batch, predicted as at deployment, and those that were recorded [rad, m or 1].

    Rows may be positions or relative to the state, all three alike.

    Attributes:
        joints: names of the action joints, A.
        predicted: [B, N, A].
        recorded: [B, N, A].
        still: where the joints were when the chunk began, [B, N, A]; NaN where an action joint is not measured.
        valid: bool [B, N]; False past the end of the episode.
    """

    joints: tuple[str, ...]
    predicted: Array
    recorded: Array
    still: Array
    valid: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ActionError:
    """Mean absolute error of action rows.

    Attributes:
        joints: names, A.
        samples: chunks that were compared.
        policy: [N, A] in the unit of each joint [rad, m or 1].
        still: the same of a policy that predicts no motion; NaN where a joint is not measured.
    """

    joints: tuple[str, ...]
    samples: int
    policy: Array
    still: Array

    def scalars(self) -> dict[str, float]:
        """Return the means over all rows and joints, each joint in its own unit, as columns of `losses.csv`."""
        return {"error_si": float(self.policy.mean()), "still_si": float(self.still.mean())}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: `policy` and `still` as joint -> one number per row of the chunk."""

        def table(values: Array) -> dict[str, list[float | None]]:
            return {
                joint: [round(float(v), 6) if np.isfinite(v) else None for v in column]
                for joint, column in zip(self.joints, values.T, strict=True)
            }

        return {"samples": self.samples, "policy": table(self.policy), "still": table(self.still)}

    def write(self, folder: Path, *, step: int) -> None:
        """Write `action_error.json` into the folder of a run, in the place of the one before."""
        plain = {"step": step, "unit": "rad, m or 1, as the joint has", **self.to_dict()}
        (folder / ERROR_NAME).write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")


class ErrorSum:
    """Adds up errors over batches."""

    def __init__(self) -> None:
        self._joints: tuple[str, ...] = ()
        self._sums: Mapping[str, Array] = {}
        self._rows: Array = np.zeros(0)
        self.samples = 0

    def add(self, rows: PredictedRows) -> None:
        """Take a batch."""
        weight = rows.valid.astype(np.float64)
        sums = {
            name: np.einsum("bna,bn->na", np.abs(getattr(rows, name) - rows.recorded), weight)
            for name in ("predicted", "still")
        }
        if not self.samples:
            self._joints, self._sums, self._rows = rows.joints, sums, weight.sum(0)
        else:
            self._sums = {name: self._sums[name] + value for name, value in sums.items()}
            self._rows = self._rows + weight.sum(0)
        self.samples += len(rows.valid)

    def result(self) -> ActionError | None:
        """Return the means; None before the first batch. Rows that no episode reaches are left out."""
        reached = self._rows > 0
        if not self.samples or not reached.any():
            return None
        means = {name: value[reached] / self._rows[reached, None] for name, value in self._sums.items()}
        return ActionError(self._joints, self.samples, means["predicted"], means["still"])
