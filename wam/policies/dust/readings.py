# SPDX-License-Identifier: Apache-2.0
"""Choices where the paper is silent or contradicts itself; the numbers are those of docs/adr/0030-dust-readings.md."""

from __future__ import annotations

import enum
from dataclasses import dataclass

TIME_BUCKETS = 1000
"""Distinct noise levels that the network can distinguish."""

TIME_CHANNELS = 256
"""Channels of the sinusoid before the time encoder."""


class HeadStream(enum.Enum):
    """The two modalities; values are the names in the checkpoint."""

    ACTION = "a"
    VISION = "o"


class BlockStyle(enum.Enum):
    """Body of a trunk block (reading 1)."""

    SD3 = "sd3"
    N1 = "n1"


class Conditioning(enum.Enum):
    """Where the vision-language features enter the trunk (reading 2)."""

    ALTERNATE = "alternate"
    EVERY = "every"


class HeadLayout(enum.Enum):
    """Which streams there are.

    DUAL is the paper's model. SINGLE runs one set of blocks over the tokens of both modalities (ablation).
    ACTION_ONLY has no world model: GR00T-N1's head.
    """

    DUAL = "dual"
    SINGLE = "single"
    ACTION_ONLY = "action-only"


class ActionPositions(enum.Enum):
    """What is added to action tokens (reading 6)."""

    SINUSOID = "sinusoid"
    LEARNED = "learned"


@dataclass(frozen=True, slots=True)
class CrossLayer:
    """One place where a stream attends to the features.

    Attributes:
        part: "mm" (trunk) or "tail".
        index: block within the part.
        stream: whose queries they are.
        prefix: "to" where the block's only attention goes to the features, "x" where it is an extra one.
    """

    part: str
    index: int
    stream: HeadStream
    prefix: str

    @property
    def path(self) -> str:
        """Name of the block in the checkpoint."""
        if self.part == "mm":
            return f"mm.{self.index}.{self.stream.value}"
        return f"tail.{self.stream.value}.{self.index}"
