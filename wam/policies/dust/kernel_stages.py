# SPDX-License-Identifier: Apache-2.0
"""DUST's stages by own kernels: `action_prefix` and the evaluations, whose blocks are halves of `StreamBlock`s.

    cross block   q -> features -> FFN                          five launches
    joint block   q, k, v of both streams -> each other -> FFN  five each (eight with a second attention)
    tail          the same two, of one stream

Encoders, output layers and decoders stay as they are written. Weights are merged for the kernels when a backend first
asks for them; nothing here imports triton before.

Shapes: T tokens of a stream, D width, C cross-attention layers, S feature rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wam.policies.dust.blocks import Qkv, StreamBlock
from wam.policies.dust.head import DustHead
from wam.policies.dust.readings import Conditioning, HeadStream
from wam.policies.dust.records import FeatureKv, Prefix, StreamModulation, StreamVelocities

if TYPE_CHECKING:
    from wam.models.kernels.attention import ContextRows
    from wam.models.kernels.run import LayerRun
    from wam.models.kernels.stream_layer import StreamLayerWeights, StreamModulationRows


class HeadByKernels:
    """The head, its blocks by kernels, for a batch of one; see `wam.policies.dust.stage_head.StageHead`.

    Not for two threads at once: all calls share one set of buffers.

    Args:
        head: loaded; its weights are merged where it has not merged them.
    """

    def __init__(self, head: DustHead) -> None:
        self._head = head
        self.config = head.config
        self.trunk_block, self.tail_blocks = head.trunk_block, head.tail_blocks
        self.action_tokens, self.vision_tokens = head.action_tokens, head.vision_tokens
        self._weights: dict[StreamBlock, StreamLayerWeights] = {}
        self._buffers: dict[tuple[HeadStream, int], LayerRun] = {}

    def prefix(self, stream: HeadStream, x_BTD: Tensor, mod: StreamModulation, kv: FeatureKv) -> Prefix:
        """Run one stream up to its first joint block; see `DustHead.prefix`."""
        x = _only(x_BTD)
        for i in range(self.config.mm_layers):
            block = self.trunk_block(i, stream)
            if self.config.is_joint(i):
                run = self._project(block, stream, x, mod.blocks[i])
                parts = run.qkv.clone()[None].chunk(3, dim=-1)
                return Prefix(x.clone()[None], Qkv(*parts))
            x = self._cross(("mm", i, stream), block, x, mod.blocks[i], kv)
        return Prefix(x.clone()[None], None)

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
        """Run the rest: joint blocks, tails, decoders; see `DustHead.finish`."""
        config = self.config
        x = {s: _only(p.x) for s, p in zip(config.streams, prefixes, strict=True)}
        mod = dict(zip(config.streams, mods, strict=True))
        joints = [i for i in range(config.mm_layers) if config.is_joint(i)]
        ends_early = bool(joints) and not want_vision
        for i in range(joints[0] if joints else config.mm_layers, config.mm_layers):
            alive = (HeadStream.ACTION,) if ends_early and i >= joints[-1] else config.streams
            if not config.is_joint(i):
                for s in alive:
                    x[s] = self._cross(("mm", i, s), self.trunk_block(i, s), x[s], mod[s].blocks[i], kv)
                continue
            runs = {}
            for s, prefix in zip(config.streams, prefixes, strict=True):
                if i == joints[0]:
                    assert prefix.qkv is not None, "the prefix of a trunk with joint blocks ends at the first"
                    runs[s] = self._run(self.trunk_block(i, s), s, len(x[s]))
                    torch.cat([_only(part) for part in prefix.qkv], dim=-1, out=runs[s].qkv)
                else:
                    runs[s] = self._project(self.trunk_block(i, s), s, x[s], mod[s].blocks[i])
            for s in alive:
                x[s] = self._attend(("mm", i, s), x[s], mod[s].blocks[i], kv, runs)
        action = vision = None
        if want_action:
            y = self._tail(HeadStream.ACTION, x[HeadStream.ACTION], mod[HeadStream.ACTION], kv)
            action = self._head.action_decoder(self._head.action_rows(y), slot)
        if want_vision and self._head.has_vision:
            y = self._tail(HeadStream.VISION, x[HeadStream.VISION], mod[HeadStream.VISION], kv)
            hidden, last_layer = self._head.vision_decoder
            vision = last_layer(F.relu(hidden(y)))
        return StreamVelocities(action, vision)

    def _tail(self, stream: HeadStream, x: Tensor, mod: StreamModulation, kv: FeatureKv) -> Tensor:
        for j, block in enumerate(self.tail_blocks(stream)):
            rows = mod.blocks[self.config.mm_layers + j]
            if self.config.tail_crosses(j):
                x = self._cross(("tail", j, stream), block, x, rows, kv)
            else:
                run = self._project(block, stream, x, rows)
                x = self._layer(block, x, run, mod=self._rows(rows))
        out: Tensor = self._head.output_layer(stream)(x[None], mod.out)
        return out

    def _attend(
        self,
        key: tuple[str, int, HeadStream],
        x: Tensor,
        mod: Tensor,
        kv: FeatureKv,
        runs: dict[HeadStream, LayerRun],
    ) -> Tensor:
        """Finish one stream's half of a joint block; the projections of all streams lie in their buffers."""
        _, index, stream = key
        extra = None
        if self.config.conditioning is Conditioning.EVERY:
            extra = self._features(key, kv)
        others = [run for s, run in runs.items() if s is not stream]
        return self._layer(
            self.trunk_block(index, stream),
            x,
            runs[stream],
            mod=self._rows(mod),
            joint=others[0] if others else None,
            extra=extra,
        )

    def _cross(
        self, key: tuple[str, int, HeadStream], block: StreamBlock, x: Tensor, mod: Tensor, kv: FeatureKv
    ) -> Tensor:
        run = self._run(block, key[2], len(x))
        return self._layer(block, x, run, mod=self._rows(mod), features=self._features(key, kv))

    def _layer(self, block: StreamBlock, x: Tensor, run: LayerRun, **given: Any) -> Tensor:
        from wam.models.kernels.stream_layer import stream_layer

        return stream_layer(self._weights[block], x, run, **given)

    def _project(self, block: StreamBlock, stream: HeadStream, x: Tensor, mod: Tensor) -> LayerRun:
        from wam.models.kernels.stream_layer import stream_qkv

        run = self._run(block, stream, len(x))
        stream_qkv(self._weights[block], x, run, mod=self._rows(mod))
        return run

    def _features(self, key: tuple[str, int, HeadStream], kv: FeatureKv) -> ContextRows:
        from wam.models.kernels.attention import ContextRows

        k, v, mask = self._head.feature_rows(key, kv)
        assert mask is None, "the stages have no mask"
        return ContextRows(_only(k), _only(v))

    def _rows(self, mod: Tensor) -> StreamModulationRows:
        from wam.models.kernels.stream_layer import StreamModulationRows

        return StreamModulationRows.of(mod, width=self.config.width)

    def _run(self, block: StreamBlock, stream: HeadStream, rows: int) -> LayerRun:
        """Return the buffers of a stream, made once; the block's weights are there afterwards."""
        from wam.models.kernels.stream_layer import StreamLayerWeights

        if block not in self._weights:
            # A block that attends to tokens was merged when the head was loaded.
            self._weights[block] = StreamLayerWeights.of(
                block,
                extra=(block.x_q, block.x_out) if block.extra_cross else None,
                crosses=block.to_qkv is None and not block.extra_cross,
            )
        if (stream, rows) not in self._buffers:
            self._buffers[stream, rows] = self._weights[block].run(rows)
        return self._buffers[stream, rows]


def _only(x: Tensor) -> Tensor:
    """Return the one entry of a batch, contiguous.

    Raises:
        ValueError: there are more.
    """
    if len(x) != 1:
        raise ValueError(f"the kernels take a batch of one, this one has {len(x)}")
    return x[0].contiguous()
