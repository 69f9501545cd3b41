# SPDX-License-Identifier: Apache-2.0
"""The diffusion head: two streams of tokens that meet only in attention (paper section 4.1).

    state, noisy actions -> tokens --+                                 +-- tail -> out -> decoder -> V_A
                                     +-- 12 trunk blocks, two halves --+
    noisy future embedding -> tokens +                                 +-- tail -> out -> decoder -> V_o

With alternating conditioning, an even block lets each stream attend to the features on its own, an odd block
joins the streams. So everything that the action stream does before its first joint block does not depend on the
vision stream: `action_prefix` computes that part, and a sampler reuses it while the action stands still.

Shapes: B batch, S feature rows, D width, N action rows, A action values, J state values, P vision tokens,
O vision channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wam.policies.dust.blocks import OutputLayer, Qkv, StreamBlock, joint_attention
from wam.policies.dust.config import DustConfig
from wam.policies.dust.encoders import (
    ActionEncoder,
    Embodiment,
    EmbodimentMlp,
    TimeEncoder,
    grid_positions,
    sinusoid,
)
from wam.policies.dust.readings import (
    ActionPositions,
    BlockStyle,
    Conditioning,
    CrossLayer,
    HeadLayout,
    HeadStream,
)
from wam.policies.dust.records import FeatureKv, Prefix, StreamModulation, StreamVelocities

Probe = Callable[[str, Tensor], None]
"""Sees intermediate tensors by name: embed.a, mm0.o, tail1.a, trunk_out.a, ..."""


class DustHead(nn.Module):
    """Weights of the head; names are the checkpoint's.

    Args:
        config: sizes and readings.
    """

    def __init__(self, config: DustConfig) -> None:
        super().__init__()
        self.config = config
        D, slots = config.width, config.embodiments
        self.state_encoder = EmbodimentMlp(slots, config.state_dim, config.hidden, D)
        self.action_encoder = ActionEncoder(slots, config.action_dim, D)
        self.action_decoder = EmbodimentMlp(slots, config.hidden, config.hidden, config.action_dim)
        if config.action_positions is ActionPositions.LEARNED:
            self.pos_action = nn.Parameter(0.02 * torch.randn(config.max_positions, D))
        else:
            self.register_buffer("pos_action", sinusoid(torch.arange(config.action_rows), width=D))
        self.future_tokens = (
            nn.Parameter(0.02 * torch.randn(config.future_tokens, D)) if config.future_tokens else None
        )
        self.has_vision = HeadStream.VISION in config.streams
        if self.has_vision:
            widths = (config.vision_dim, D, D, D)
            self.vision_encoder = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(widths))
            self.vision_decoder = nn.ModuleList(
                (nn.Linear(config.hidden, config.hidden), nn.Linear(config.hidden, config.vision_dim))
            )
            self.register_buffer("pos_vision", grid_positions(*config.target_grid, width=D))
        self.time_a = TimeEncoder(D)
        self.time_o = TimeEncoder(D) if self.has_vision and not config.shared_time else None
        own = [s.value for s in config.weight_streams]
        every = config.conditioning is Conditioning.EVERY
        self.mm = nn.ModuleList(
            nn.ModuleDict({s: _block(config, config.style, every, config.trunk_dropout) for s in own})
            for _ in range(config.mm_layers)
        )
        self.tail = nn.ModuleDict(
            {
                s: nn.ModuleList(
                    _block(config, BlockStyle.N1, False, config.tail_dropout)
                    for _ in range(config.tail_layers)
                )
                for s in own
            }
        )
        self.out = nn.ModuleDict({s: OutputLayer(D, config.hidden) for s in own})
        self._cross_index = {(c.part, c.index, c.stream): i for i, c in enumerate(config.cross_layers())}

    # Parts by stream; the single-stream ablation has one set of weights for both.

    def _own(self, stream: HeadStream) -> HeadStream:
        return HeadStream.ACTION if self.config.layout is HeadLayout.SINGLE else stream

    def trunk_block(self, index: int, stream: HeadStream) -> StreamBlock:
        """Return one stream's half of a trunk block."""
        block = self.mm[index]
        assert isinstance(block, nn.ModuleDict)
        half = block[self._own(stream).value]
        assert isinstance(half, StreamBlock)
        return half

    def tail_blocks(self, stream: HeadStream) -> list[StreamBlock]:
        """Return one stream's tail."""
        tail = self.tail[self._own(stream).value]
        assert isinstance(tail, nn.ModuleList)
        return [b for b in tail if isinstance(b, StreamBlock)]

    def block_at(self, layer: CrossLayer) -> StreamBlock:
        """Return the block that reads the features at `layer`."""
        if layer.part == "mm":
            return self.trunk_block(layer.index, layer.stream)
        return self.tail_blocks(layer.stream)[layer.index]

    # Once per chunk.

    def project_features(self, features_BSD: Tensor, mask_BS: Tensor | None = None) -> FeatureKv:
        """Project the features to keys and values of every layer that reads them.

        Args:
            features_BSD: from the backbone.
            mask_BS: real rows; dropped where the configuration does not mask (`mask_features`).
        """
        pairs = [self.block_at(layer).feature_kv(features_BSD) for layer in self.config.cross_layers()]
        k, v = zip(*pairs, strict=True) if pairs else ((), ())
        return FeatureKv(k, v, mask_BS if self.config.mask_features else None)

    def encode_state(self, state_BTJ: Tensor, slot: Embodiment) -> Tensor:
        """Return the state tokens [B, T, D]; `state_BTJ` is normalised and padded with zeros."""
        out: Tensor = self.state_encoder(state_BTJ.to(self.dtype), slot)
        return out

    # Once per noise level.

    def action_modulation(self, bucket_R: Tensor, slot: Embodiment) -> StreamModulation:
        """Return the terms that depend on the action's noise level."""
        return self._modulation(HeadStream.ACTION, bucket_R, self.action_encoder.time_term(bucket_R, slot))

    def vision_modulation(self, bucket_R: Tensor) -> StreamModulation:
        """Return the terms that depend on the noise level of the future embedding."""
        return self._modulation(HeadStream.VISION, bucket_R, None)

    def _modulation(self, stream: HeadStream, bucket_R: Tensor, encoder: Tensor | None) -> StreamModulation:
        encode = self.time_o if stream is HeadStream.VISION and self.time_o is not None else self.time_a
        y = F.silu(encode(bucket_R))
        trunk = [self.trunk_block(i, stream) for i in range(self.config.mm_layers)]
        blocks = tuple(block.modulation(y) for block in (*trunk, *self.tail_blocks(stream)))
        return StreamModulation(blocks, self.output_layer(stream).modulation(y), encoder)

    def output_layer(self, stream: HeadStream) -> OutputLayer:
        """Return the last layer of one stream."""
        layer = self.out[self._own(stream).value]
        assert isinstance(layer, OutputLayer)
        return layer

    # Once per evaluation.

    def action_tokens(
        self, state_BTD: Tensor, action_BNA: Tensor, mod: StreamModulation, slot: Embodiment
    ) -> Tensor:
        """Return the tokens of the action stream: state, actions, and the alignment baseline's future tokens."""
        assert mod.encoder is not None
        rows = self.action_encoder(action_BNA.to(self.dtype), mod.encoder, slot)
        rows = rows + self.pos_action[: rows.shape[1]]
        parts = [state_BTD, rows]
        if self.future_tokens is not None:
            parts.append(self.future_tokens[None].expand(rows.shape[0], -1, -1))
        return torch.cat(parts, dim=1)

    def vision_tokens(self, future_BPO: Tensor) -> Tensor:
        """Return the tokens of the vision stream [B, P, D]."""
        first, second, third = self.vision_encoder
        x = F.silu(second(F.silu(first(future_BPO.to(self.dtype)))))
        out: Tensor = third(x) + self.pos_vision
        return out

    def prefix(
        self,
        stream: HeadStream,
        x_BTD: Tensor,
        mod: StreamModulation,
        kv: FeatureKv,
        probe: Probe | None = None,
    ) -> Prefix:
        """Run one stream up to its first joint block; nothing of the other stream is read.

        Args:
            stream: which one.
            x_BTD: its tokens.
            mod: of its noise level.
            kv: of the features.
            probe: sees the tokens after every block.
        """
        x = x_BTD
        for i in range(self.config.mm_layers):
            block = self.trunk_block(i, stream)
            if self.config.is_joint(i):
                return Prefix(x, block.qkv(x, mod.blocks[i]))
            x = self._cross(("mm", i, stream), block, x, mod.blocks[i], kv)
            _tell(probe, f"mm{i}.{stream.value}", x)
        return Prefix(x, None)

    def feature_rows(
        self, key: tuple[str, int, HeadStream], kv: FeatureKv
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return keys, values and mask of the features for one cross-attention layer."""
        part, index, stream = key
        c = self._cross_index[part, index, self._own(stream)]
        return kv.k[c], kv.v[c], None if kv.mask is None else kv.mask[:, None, None]

    def _cross(
        self, key: tuple[str, int, HeadStream], block: StreamBlock, x: Tensor, mod: Tensor, kv: FeatureKv
    ) -> Tensor:
        k, v, mask = self.feature_rows(key, kv)
        return block.cross(x, mod, k, v, mask)

    def finish(
        self,
        prefixes: Sequence[Prefix],
        mods: Sequence[StreamModulation],
        kv: FeatureKv,
        slot: Embodiment,
        *,
        want_action: bool = True,
        want_vision: bool = True,
        decoupled: bool = False,
        probe: Probe | None = None,
    ) -> StreamVelocities:
        """Run the rest: joint blocks, tails, decoders.

        Args:
            prefixes: of every stream, in the order of `DustConfig.streams`.
            mods: of every stream.
            kv: of the features.
            slot: whose decoder.
            want_action: run the action's tail and decoder.
            want_vision: run the vision tail and decoder; else the vision stream ends in the last joint block.
            decoupled: hide each stream's keys from the other; for checks.
            probe: sees the tokens after every block.

        Returns:
            The requested velocities.
        """
        config = self.config
        x = {s: p.x for s, p in zip(config.streams, prefixes, strict=True)}
        mod = dict(zip(config.streams, mods, strict=True))
        joints = [i for i in range(config.mm_layers) if config.is_joint(i)]
        # Vision tokens that no tail will read are needed only as keys and values of the last joint block.
        ends_early = bool(joints) and not want_vision
        for i in range(joints[0] if joints else config.mm_layers, config.mm_layers):
            alive = config.streams
            if ends_early and i > joints[-1]:
                alive = (HeadStream.ACTION,)
            if not config.is_joint(i):
                for s in alive:
                    x[s] = self._cross(("mm", i, s), self.trunk_block(i, s), x[s], mod[s].blocks[i], kv)
                    _tell(probe, f"mm{i}.{s.value}", x[s])
                continue
            qkv = [_projected(p) for p in prefixes] if i == joints[0] else self._project(i, x, mod)
            if ends_early and i == joints[-1]:
                alive = (HeadStream.ACTION,)
                qkv[-1] = qkv[-1]._replace(q=qkv[-1].q[:, :0])
            attended = joint_attention(qkv, heads=config.heads, own_only=decoupled)
            for s, rows in zip(alive, attended, strict=False):
                extra, mask = None, None
                if config.conditioning is Conditioning.EVERY:
                    k, v, mask = self.feature_rows(("mm", i, s), kv)
                    extra = (k, v)
                x[s] = self.trunk_block(i, s).after(x[s], rows, mod[s].blocks[i], extra=extra, mask=mask)
                _tell(probe, f"mm{i}.{s.value}", x[s])
        action = vision = None
        if want_action:
            y = self._tail(HeadStream.ACTION, x[HeadStream.ACTION], mod[HeadStream.ACTION], kv, probe)
            rows = self.action_rows(y)
            action = self.action_decoder(rows, slot)
        if want_vision and self.has_vision:
            y = self._tail(HeadStream.VISION, x[HeadStream.VISION], mod[HeadStream.VISION], kv, probe)
            hidden, last_layer = self.vision_decoder
            vision = last_layer(F.relu(hidden(y)))
        return StreamVelocities(action, vision)

    def action_rows(self, y_BTH: Tensor) -> Tensor:
        """Return the rows of the actions among those of their stream."""
        end = y_BTH.shape[1] - self.config.future_tokens
        return y_BTH[:, end - self.config.action_rows : end]

    def _project(
        self, index: int, x: dict[HeadStream, Tensor], mod: dict[HeadStream, StreamModulation]
    ) -> list[Qkv]:
        return [self.trunk_block(index, s).qkv(x[s], mod[s].blocks[index]) for s in self.config.streams]

    def _tail(
        self, stream: HeadStream, x: Tensor, mod: StreamModulation, kv: FeatureKv, probe: Probe | None
    ) -> Tensor:
        for j, block in enumerate(self.tail_blocks(stream)):
            m = mod.blocks[self.config.mm_layers + j]
            if self.config.tail_crosses(j):
                x = self._cross(("tail", j, stream), block, x, m, kv)
            else:
                x = block.self_attention(x, m)
            _tell(probe, f"tail{j}.{stream.value}", x)
        out: Tensor = self.output_layer(stream)(x, mod.out)
        _tell(probe, f"trunk_out.{stream.value}", out)
        return out

    def forward(
        self,
        kv: FeatureKv,
        *,
        state_BTJ: Tensor,
        action_BNA: Tensor,
        future_BPO: Tensor | None,
        bucket_a: Tensor,
        bucket_o: Tensor | None,
        slot: Embodiment,
        decoupled: bool = False,
        probe: Probe | None = None,
    ) -> StreamVelocities:
        """Predict both velocities from scratch: training, and the reference for every saving.

        Args:
            kv: of the features.
            state_BTJ: normalised state.
            action_BNA: noisy actions.
            future_BPO: noisy future embedding, or None without a vision stream.
            bucket_a: noise level of the actions, int64 [1 or B].
            bucket_o: noise level of the future embedding, or None without a vision stream.
            slot: embodiment.
            decoupled: hide each stream's keys from the other; for checks.
            probe: sees intermediate tensors.
        """
        mods = [self.action_modulation(bucket_a, slot)]
        tokens = [self.action_tokens(self.encode_state(state_BTJ, slot), action_BNA, mods[0], slot)]
        if self.has_vision:
            assert future_BPO is not None
            assert bucket_o is not None
            mods.append(self.vision_modulation(bucket_o))
            tokens.append(self.vision_tokens(future_BPO))
        for stream, x in zip(self.config.streams, tokens, strict=True):
            _tell(probe, f"embed.{stream.value}", x)
        prefixes = [
            self.prefix(s, x, m, kv, probe) for s, x, m in zip(self.config.streams, tokens, mods, strict=True)
        ]
        return self.finish(prefixes, mods, kv, slot, decoupled=decoupled, probe=probe)

    def keep_embodiment(self, slot: int) -> None:
        """Drop the encoders of all other robots; the slot becomes 0 (saves 0.31 G of 1.63 G parameters)."""
        for module in (self.state_encoder, self.action_decoder):
            module.layer1.keep([slot])
            module.layer2.keep([slot])
        for layer in (self.action_encoder.W1, self.action_encoder.W2, self.action_encoder.W3):
            layer.keep([slot])

    def merge_projections(self) -> None:
        """Join the projections of every block whose tokens attend to tokens, for inference (`StreamBlock.merge`)."""
        config = self.config
        for s in config.weight_streams:
            for i in range(config.mm_layers):
                if config.is_joint(i):
                    self.trunk_block(i, s).merge()
            for j, block in enumerate(self.tail_blocks(s)):
                if not config.tail_crosses(j):
                    block.merge()

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return self.time_a.linear_1.weight.dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.time_a.linear_1.weight.device


def _block(config: DustConfig, style: BlockStyle, extra_cross: bool, dropout: float) -> StreamBlock:
    return StreamBlock(
        config.width, heads=config.heads, style=style, extra_cross=extra_cross, dropout=dropout
    )


def _projected(prefix: Prefix) -> Qkv:
    assert prefix.qkv is not None, "the prefix of a trunk with joint blocks ends at the first of them"
    return prefix.qkv


def _tell(probe: Probe | None, name: str, tensor: Tensor) -> None:
    if probe is not None:
        probe(name, tensor)
