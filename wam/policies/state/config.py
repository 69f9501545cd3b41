# SPDX-License-Identifier: Apache-2.0
"""Sizes of the network, and its presets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class StateConfig:
    """Sizes of the network.

    Attributes:
        state: joints that it is given.
        environment: numbers of the ground truth.
        action: joints that it moves.
        rows: of a chunk.
        width: of the hidden layers.
        depth: number of hidden layers.
        live: it is given the ground truth of every observation; otherwise that of the first one under the instruction.
    """

    state: int = 14
    environment: int = 3
    action: int = 14
    rows: int = 16
    width: int = 256
    depth: int = 3
    live: bool = False

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name != "live" and value < 1:
                raise ValueError(f"{name} is {value}, must be positive")

    def to_dict(self) -> dict[str, Any]:
        """Return the sizes as plain values."""
        return asdict(self)


PRESETS: dict[str, Callable[[], StateConfig]] = {"tiny": StateConfig}
