# SPDX-License-Identifier: Apache-2.0
"""The video DiT: a Wan 2.2 transformer that plans (paper section 3.1).

At deployment it reads one clean frame and exports K/V of every layer (Eq. 2); in training it predicts the
velocity of future frames under a per-frame causal mask.

Shapes: B batch, C latent channels, F latent frames, S tokens of one frame, N = F * S, M memory tokens,
T text rows, L layers, D width, I attention width (equal in the released sizes).
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wam.models.layers.attention import attend
from wam.models.layers.dit_block import MODULATIONS, DitBlock, Modulation
from wam.models.layers.embeddings import timestep_embedding
from wam.models.layers.module_list import members
from wam.models.layers.rope import Rope, rotate
from wam.policies.aha_wam.config import AhaWamConfig


class LayerKv(NamedTuple):
    """Keys and values of every layer, stacked.

    Attributes:
        k: [L, B, tokens, I].
        v: [L, B, tokens, I].
    """

    k: Tensor
    v: Tensor


class VideoKv(NamedTuple):
    """Keys and values of one pass of the video DiT, each [L, B, N, I].

    Attributes:
        k: keys as the action DiT reads them (normalised, rotated).
        v: values.
        k_unrotated: normalised keys before rotation, for the rolling memory.
    """

    k: Tensor
    v: Tensor
    k_unrotated: Tensor


class VideoHead(nn.Module):
    """Modulated LayerNorm and projection back to latent patches (key names of Wan)."""

    def __init__(self, width: int, out: int, *, eps: float) -> None:
        super().__init__()
        self.head = nn.Linear(width, out)
        self.modulation = nn.Parameter(torch.randn(1, 2, width) / width**0.5)
        self.eps = eps

    def forward(self, x_BND: Tensor, time_BND: Tensor) -> Tensor:
        """Return [B, N, out]; `time_BND` is the time embedding of each token."""
        shift, scale = (self.modulation + time_BND[..., None, :]).unbind(-2)
        y = F.layer_norm(x_BND, x_BND.shape[-1:], eps=self.eps)
        out: Tensor = self.head(torch.addcmul(shift, y, 1 + scale))
        return out


class VideoDit(nn.Module):
    """The planner's transformer.

    Args:
        config: sizes; `config.video` and what surrounds it.
    """

    def __init__(self, config: AhaWamConfig) -> None:
        super().__init__()
        c = config.video
        self.heads = c.heads
        self.freq_dim = c.freq_dim
        self.patch = config.patch
        self.latent_channels = config.latent_channels
        patch = (1, config.patch, config.patch)
        self.patch_embedding = nn.Conv3d(config.latent_channels, c.width, kernel_size=patch, stride=patch)
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
        self.head = VideoHead(c.width, config.latent_channels * config.patch**2, eps=c.eps)

    def text_kv(self, text_BTE: Tensor) -> LayerKv:
        """Return the cross-attention K/V of the text, computed once per instruction."""
        rows = self.text_embedding(text_BTE)
        pairs = [block.cross_attn.keys_values(rows) for block in members(self.blocks, DitBlock)]
        return LayerKv(torch.stack([k for k, _ in pairs]), torch.stack([v for _, v in pairs]))

    def tokens(self, z_BCFHW: Tensor) -> Tensor:
        """Cut latents into tokens, frame by frame in raster order: [B, N, D]."""
        # A strided convolution without overlap is one matrix product, which small images run faster.
        p = self.patch
        patches = (
            z_BCFHW.unflatten(4, (-1, p))
            .unflatten(3, (-1, p))
            .permute(0, 2, 3, 5, 1, 4, 6)
            .flatten(4)
            .flatten(1, 3)
            .to(self.patch_embedding.weight.dtype)
        )
        return F.linear(patches, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias)

    def time(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Embed network times.

        Args:
            t: [...], network time of each token (or of all).

        Returns:
            Time embedding [..., D] and its projection [..., 6, D].
        """
        weight = cast(nn.Linear, self.time_embedding[0]).weight
        e = self.time_embedding(timestep_embedding(t, dim=self.freq_dim, dtype=weight.dtype))
        return e, self.time_projection(e).unflatten(-1, (MODULATIONS, -1))

    def clean_modulations(self) -> Tensor:
        """Return the modulations of clean tokens (t = 0), constant for given weights: [L, 6, D]."""
        _, time_mod = self.time(torch.zeros((), device=self.head.modulation.device))
        return torch.stack([block.modulations(time_mod) for block in members(self.blocks, DitBlock)])

    def prefill(
        self,
        z_BCFHW: Tensor,
        *,
        text: LayerKv,
        modulations_L6D: Tensor,
        rope: Rope,
        memory: LayerKv | None = None,
        memory_rope: Rope | None = None,
        mask: Tensor | None = None,
    ) -> VideoKv:
        """Run clean frames through the network and export K/V of every layer (paper Eq. 2).

        Args:
            z_BCFHW: standardised VAE latents.
            text: from `text_kv`.
            modulations_L6D: from `clean_modulations`.
            rope: rotation of the N own tokens.
            memory: K/V of earlier prefills, oldest first; None reads nothing. Its keys are unrotated if
                `memory_rope` is given, else they are used as they are.
            memory_rope: rotation of the M memory tokens.
            mask: boolean [B or 1, 1, N, M + N], True = visible; None shows everything.
        """
        _, kv = self.prefill_layers(
            self.tokens(z_BCFHW),
            range(len(self.blocks)),
            text=text,
            modulations_L6D=modulations_L6D,
            rope=rope,
            memory=memory,
            memory_rope=memory_rope,
            mask=mask,
        )
        return kv

    def prefill_layers(
        self,
        x_BND: Tensor,
        layers: range,
        *,
        text: LayerKv,
        modulations_L6D: Tensor,
        rope: Rope,
        memory: LayerKv | None = None,
        memory_rope: Rope | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, VideoKv]:
        """Run some layers of a prefill; arguments as those of `prefill`.

        Args:
            x_BND: tokens as they enter the first of the layers.
            layers: which.
            text: of all layers, as everything below.
            modulations_L6D: from `clean_modulations`.
            rope: rotation of the own tokens.
            memory: K/V of earlier prefills.
            memory_rope: rotation of the memory tokens.
            mask: what is visible.

        Returns:
            The tokens after the layers (unchanged by the network's last one, which only exports), and their K/V.
        """
        x = x_BND
        exported: list[tuple[Tensor, Tensor, Tensor]] = []
        last, blocks = len(self.blocks) - 1, list(members(self.blocks, DitBlock))
        for i in layers:
            block = blocks[i]
            mod = Modulation(*modulations_L6D[i].unbind(0))
            qkv = block.before_attention(x, mod, rope)
            exported.append((qkv.k, qkv.v, qkv.k_unrotated))
            if i == last:
                break
            k, v = qkv.k, qkv.v
            if memory is not None:
                old_k = memory.k[i]
                if memory_rope is not None:
                    old_k = rotate(old_k, memory_rope, heads=self.heads)
                k, v = torch.cat((old_k, k), dim=1), torch.cat((memory.v[i], v), dim=1)
            attended = attend(qkv.q, k, v, heads=self.heads, mask=mask)
            x = block.after_attention(x, attended, mod, text_k=text.k[i], text_v=text.v[i])
        k, v, k_unrotated = (torch.stack(parts) for parts in zip(*exported, strict=True))
        return x, VideoKv(k, v, k_unrotated)

    def forward(
        self,
        z_BCFHW: Tensor,
        t_BN: Tensor,
        *,
        text: LayerKv,
        rope: Rope,
        mask: Tensor | None,
        history: LayerKv | None = None,
    ) -> tuple[Tensor, VideoKv]:
        """Training pass: predict the velocity of noisy latents.

        Args:
            z_BCFHW: latents, frame 0 clean and later frames noisy.
            t_BN: network time of each token; 0 for the tokens of clean frames.
            text: from `text_kv`.
            rope: rotation of the N tokens, [N, 1, head_dim] or [B, N, 1, head_dim].
            mask: boolean, broadcastable to [B, heads, N, M + N].
            history: rotated K/V of history frames (M tokens), detached by the caller.

        Returns:
            Velocity [B, C, F, H, W] and the K/V of every layer.
        """
        x = self.tokens(z_BCFHW)
        e_BND, time_mod = self.time(t_BN)
        exported: list[tuple[Tensor, Tensor, Tensor]] = []
        for i, block in enumerate(members(self.blocks, DitBlock)):
            mod = Modulation(*block.modulations(time_mod).unbind(-2))
            qkv = block.before_attention(x, mod, rope)
            exported.append((qkv.k, qkv.v, qkv.k_unrotated))
            k, v = qkv.k, qkv.v
            if history is not None:
                k, v = torch.cat((history.k[i], k), dim=1), torch.cat((history.v[i], v), dim=1)
            attended = attend(qkv.q, k, v, heads=self.heads, mask=mask)
            x = block.after_attention(x, attended, mod, text_k=text.k[i], text_v=text.v[i])
        k, v, k_unrotated = (torch.stack(parts) for parts in zip(*exported, strict=True))
        return self.untokens(self.head(x, e_BND), z_BCFHW), VideoKv(k, v, k_unrotated)

    def untokens(self, patches_BNP: Tensor, like_BCFHW: Tensor) -> Tensor:
        """Put projected tokens back into the shape of the latents."""
        _, channels, frames, height, width = like_BCFHW.shape
        p = self.patch
        grid = patches_BNP.unflatten(2, (p, p, channels)).unflatten(1, (frames, height // p, width // p))
        latents: Tensor = grid.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)
        return latents


def frame_mask(frames: int, tokens: int, *, only_first: bool, device: torch.device) -> Tensor:
    """Return which video tokens see which, bool [N, N]; True = visible.

    For three frames of S tokens each, every cell standing for S x S:

                 per frame       only_first
                 keys 0 1 2      keys 0 1 2
        query 0       x . .           x . .
        query 1       x x .           x x x
        query 2       x x x           x x x
    """
    frame = torch.arange(frames, device=device).repeat_interleave(tokens)
    if only_first:
        return (frame[:, None] > 0) | (frame[None, :] == 0)
    return frame[:, None] >= frame[None, :]
