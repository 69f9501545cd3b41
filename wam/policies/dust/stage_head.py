# SPDX-License-Identifier: Apache-2.0
"""What the stages of inference read of a head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from wam.policies.dust.blocks import StreamBlock
from wam.policies.dust.config import DustConfig
from wam.policies.dust.readings import HeadStream
from wam.policies.dust.records import FeatureKv, Prefix, StreamModulation, StreamVelocities


class StageHead(Protocol):
    """What the stages read of a head: `DustHead`, or its blocks by kernels."""

    config: DustConfig

    def trunk_block(self, index: int, stream: HeadStream) -> StreamBlock:
        """Return one stream's half of a trunk block."""
        ...

    def tail_blocks(self, stream: HeadStream) -> list[StreamBlock]:
        """Return one stream's tail."""
        ...

    def action_tokens(
        self, state_BTD: Tensor, action_BNA: Tensor, mod: StreamModulation, slot: int
    ) -> Tensor:
        """Return the tokens of the action stream; see `DustHead.action_tokens`."""
        ...

    def vision_tokens(self, future_BPO: Tensor) -> Tensor:
        """Return the tokens of the vision stream."""
        ...

    def prefix(self, stream: HeadStream, x_BTD: Tensor, mod: StreamModulation, kv: FeatureKv) -> Prefix:
        """Run one stream up to its first joint block; see `DustHead.prefix`."""
        ...

    def finish(
        self,
        prefixes: Sequence[Prefix],
        mods: Sequence[StreamModulation],
        kv: FeatureKv,
        slot: int,
        *,
        want_action: bool = True,
        want_vision: bool = True,
    ) -> StreamVelocities:
        """Run the rest; see `DustHead.finish`."""
        ...
