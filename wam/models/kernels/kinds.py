# SPDX-License-Identifier: Apache-2.0
"""What a layer may choose between; the kernels are compiled once for each choice."""

from __future__ import annotations

from enum import IntEnum


class Norm(IntEnum):
    """Norm in front of a projection, over the whole width."""

    NONE = 0
    LAYER = 1
    RMS = 2


class Activation(IntEnum):
    """What follows a projection; SWIGLU is silu(gate) * up of two projections."""

    LINEAR = 0
    GELU = 1
    SWIGLU = 2


class RotaryPairing(IntEnum):
    """Which two channels of a head a rotary embedding turns together.

    ADJACENT: 2 i and 2 i + 1 (Wan). HALVES: i and i + head_dim / 2 (Llama, Emu3).
    """

    ADJACENT = 1
    HALVES = 2
