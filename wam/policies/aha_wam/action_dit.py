# SPDX-License-Identifier: Apache-2.0
"""The action DiT: denoises one chunk of action rows under the routed planner context (paper Eq. 3).

What does not change between integration steps is computed by separate methods, once per instruction
(`text_kv`), per sampler (`schedule`) or per chunk (`text_kv` of the state token, routed K/V), and handed in.

Shapes: B batch of chunks, R rows of a chunk, A action values, S planner tokens, T text rows (+ 1 state
row), L layers, D width, I attention width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from wam.models.layers.attention import attend
from wam.models.layers.dit_block import MODULATIONS, DitBlock, Modulation
from wam.models.layers.embeddings import timestep_embedding
from wam.models.layers.module_list import members
from wam.models.layers.rope import Rope
from wam.policies.aha_wam.config import AhaWamConfig
from wam.policies.aha_wam.video_dit import LayerKv

Probe = Callable[[str, Tensor], None]
"""Called with the name of a place and the tensor there; used to find where a value stopped being finite."""


class ActionDit(nn.Module):
    """The executor's transformer.

    Args:
        config: sizes; `config.action` and what surrounds it.
    """

    def __init__(self, config: AhaWamConfig) -> None:
        super().__init__()
        c = config.action
        self.heads = c.heads
        self.freq_dim = c.freq_dim
        self.action_encoder = nn.Linear(config.action_dim, c.width)
        self.text_embedding = nn.Sequential(
            nn.Linear(config.text_dim, c.width), nn.GELU(approximate="tanh"), nn.Linear(c.width, c.width)
        )
        self.time_embedding = nn.Sequential(
            nn.Linear(c.freq_dim, c.width), nn.SiLU(), nn.Linear(c.width, c.width)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(c.width, MODULATIONS * c.width))
        self.blocks = nn.ModuleList(
            DitBlock(width=c.width, inner=c.inner, ffn=c.ffn, heads=c.heads, eps=c.eps)
            for _ in range(c.layers)
        )
        self.head = nn.Linear(c.width, config.action_dim)

    def text_kv(self, text_BTE: Tensor) -> LayerKv:
        """Return the cross-attention K/V of text rows, or of the state token (T = 1)."""
        rows = self.text_embedding(text_BTE)
        pairs = [block.cross_attn.keys_values(rows) for block in members(self.blocks, DitBlock)]
        return LayerKv(torch.stack([k for k, _ in pairs]), torch.stack([v for _, v in pairs]))

    def modulations(self, t: Tensor) -> Tensor:
        """Return the modulations of every layer at network times `t` [...]: [..., L, 6, D]."""
        weight = cast(nn.Linear, self.time_embedding[0]).weight
        e = self.time_embedding(timestep_embedding(t, dim=self.freq_dim, dtype=weight.dtype))
        time_mod = self.time_projection(e).unflatten(-1, (MODULATIONS, -1))
        return torch.stack([block.modulations(time_mod) for block in members(self.blocks, DitBlock)], dim=-3)

    def forward(
        self,
        x_BRA: Tensor,
        *,
        modulations: Tensor,
        branch: Tensor,
        context: LayerKv,
        text: LayerKv,
        rope: Rope,
        probe: Probe | None = None,
    ) -> Tensor:
        """Predict the velocity of a noisy chunk.

        Args:
            x_BRA: noisy rows, normalised units.
            modulations: [L, 6, D] where the whole batch is at one time, [B, L, 6, D], or [B, R, L, 6, D] with one for
                every row.
            branch: [D], the embedding added to every action token.
            context: routed planner K/V (S tokens); batch B or 1.
            text: cross-attention K/V of the text rows and the state token; batch B or 1.
            rope: rotation of the R rows, [R, 1, head_dim] or [B, R, 1, head_dim].
            probe: sees the tokens after every block.

        Returns:
            [B, R, A] in the dtype of the weights.
        """
        if modulations.dim() == 4:
            modulations = modulations[:, None]
        if modulations.dim() == 5:
            modulations = modulations.permute(2, 3, 0, 1, 4)
        x = self.action_encoder(x_BRA.to(self.head.weight.dtype)) + branch
        for i, block in enumerate(members(self.blocks, DitBlock)):
            mod = Modulation(*modulations[i].unbind(0))
            qkv = block.before_attention(x, mod, rope)
            k = torch.cat((_expand(context.k[i], x), qkv.k), dim=1)
            v = torch.cat((_expand(context.v[i], x), qkv.v), dim=1)
            attended = attend(qkv.q, k, v, heads=self.heads)
            x = block.after_attention(
                x, attended, mod, text_k=_expand(text.k[i], x), text_v=_expand(text.v[i], x)
            )
            if probe is not None:
                probe(f"action DiT layer {i}", x)
        out: Tensor = self.head(x)
        return out


def _expand(rows: Tensor, x: Tensor) -> Tensor:
    return rows if rows.shape[0] == x.shape[0] else rows.expand(x.shape[0], -1, -1)
