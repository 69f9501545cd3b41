# SPDX-License-Identifier: Apache-2.0
"""Sizes of a UD-VLA network, and its presets. transformers is imported only where its configurations are made."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from wam.policies.ud_vla.tokens import RELEASED, TokenLayout, compact

if TYPE_CHECKING:
    from transformers import Emu3TextConfig, Emu3VQVAEConfig

ATTENTION_DROPOUT = 0.1
"""The release applies it to the embeddings as well, in training only."""


class MaskMode(enum.Enum):
    """Which attention mask a policy was trained with; drawn in `wam.policies.ud_vla.masks`."""

    HYBRID = "hybrid"
    RELEASED = "released"
    CAUSAL = "causal"


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """Sizes of the image tokenizer (Emu3 VisionVQ); the code book has as many codes as the vocabulary.

    Attributes:
        base_channels: channels of the first stage.
        channel_multiplier: factor of each stage; every stage but the last halves the image.
        res_blocks: per stage.
        temporal_factor: an image is repeated so often before it is encoded.
        embed_dim: numbers per code.
    """

    base_channels: int = 256
    channel_multiplier: tuple[int, ...] = (1, 2, 2, 4)
    res_blocks: int = 2
    temporal_factor: int = 4
    embed_dim: int = 4

    def __post_init__(self) -> None:
        if self.base_channels % 32 or self.temporal_factor & (self.temporal_factor - 1):
            raise ValueError(
                f"base_channels {self.base_channels} must be a multiple of 32 and temporal_factor "
                f"{self.temporal_factor} a power of two"
            )

    @property
    def side_factor(self) -> int:
        """Pixels per code, along each side."""
        return int(2 ** (len(self.channel_multiplier) - 1))

    def library(self, codes: int) -> Emu3VQVAEConfig:
        """Return the configuration of the library's class.

        Args:
            codes: size of the code book.
        """
        from transformers import Emu3VQVAEConfig

        return Emu3VQVAEConfig(
            codebook_size=codes,
            embed_dim=self.embed_dim,
            latent_channels=self.embed_dim,
            base_channels=self.base_channels,
            channel_multiplier=list(self.channel_multiplier),
            num_res_blocks=self.res_blocks,
            temporal_downsample_factor=self.temporal_factor,
            attn_resolutions=[len(self.channel_multiplier) - 1],
            hidden_size=self.base_channels * self.channel_multiplier[-1],
        )


@dataclass(frozen=True, slots=True)
class UdVlaConfig:
    """Sizes of the decoder.

    Attributes:
        hidden: D.
        layers: of the decoder.
        heads: query heads.
        kv_heads: key and value heads.
        ffn: width of the gated feed-forward part.
        max_positions: longest sequence.
        action_len: A, sites of the action block with BOA.
        mask: which mask the weights were trained with.
        tokens: ids.
        vision: image tokenizer.
        rope_theta: base of the rotary embedding.
        rms_eps: of the norms.
    """

    hidden: int = 4096
    layers: int = 32
    heads: int = 32
    kv_heads: int = 8
    ffn: int = 14_336
    max_positions: int = 1650
    action_len: int = 70
    mask: MaskMode = MaskMode.HYBRID
    tokens: TokenLayout = RELEASED
    vision: VisionConfig = field(default_factory=VisionConfig)
    rope_theta: float = 1e6
    rms_eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.heads < 1 or self.hidden % self.heads or (self.hidden // self.heads) % 2:
            raise ValueError(f"hidden {self.hidden} does not divide into {self.heads} heads of even width")
        if self.kv_heads < 1 or self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is no multiple of kv_heads {self.kv_heads}")
        for name in ("layers", "ffn", "max_positions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be positive")
        if self.action_len < 2:
            raise ValueError(f"action_len is {self.action_len}, needs BOA and at least one site")

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden // self.heads

    def library(self) -> Emu3TextConfig:
        """Return the configuration of the library's class."""
        from transformers import Emu3TextConfig

        return Emu3TextConfig(
            vocab_size=self.tokens.vocab_size,
            hidden_size=self.hidden,
            intermediate_size=self.ffn,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            max_position_embeddings=self.max_positions,
            rms_norm_eps=self.rms_eps,
            rope_parameters={"rope_type": "default", "rope_theta": self.rope_theta},
            pad_token_id=self.tokens.pad,
            bos_token_id=self.tokens.bos,
            eos_token_id=None,
            attention_dropout=ATTENTION_DROPOUT,
            tie_word_embeddings=False,
            use_cache=False,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for policy.yaml."""
        raw = asdict(self)
        raw["mask"] = self.mask.value
        raw["vision"]["channel_multiplier"] = list(self.vision.channel_multiplier)
        return raw

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> UdVlaConfig:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: a key is unknown or missing, or a value is impossible.
        """
        names = {f.name for f in fields(UdVlaConfig)}
        if set(raw) != names:
            raise ValueError(f"missing {sorted(names - set(raw))}, unknown {sorted(set(raw) - names)}")
        vision = dict(raw["vision"])
        vision["channel_multiplier"] = tuple(vision["channel_multiplier"])
        return UdVlaConfig(
            **{
                **raw,
                "mask": MaskMode(raw["mask"]),
                "tokens": TokenLayout.from_dict(raw["tokens"]),
                "vision": VisionConfig(**vision),
            }
        )


TINY_VISION = VisionConfig(base_channels=32, channel_multiplier=(1, 1, 1, 1), res_blocks=1, temporal_factor=1)


def paper() -> UdVlaConfig:
    """Return the published network: Emu3's decoder, 8,492,011,520 parameters."""
    return UdVlaConfig()


def wide() -> UdVlaConfig:
    """Return a network of the published vocabulary and shape at a quarter of the width, for measurements."""
    return UdVlaConfig(hidden=1024, layers=8, heads=8, kv_heads=2, ffn=3584)


def tiny() -> UdVlaConfig:
    """Return a network for tests and demos: bytes as text, 64 image codes, 65 action tokens."""
    return UdVlaConfig(
        hidden=32,
        layers=3,
        heads=4,
        kv_heads=2,
        ffn=64,
        max_positions=512,
        tokens=compact(visual_count=64, action_count=65),
        vision=TINY_VISION,
    )


PRESETS = {"paper": paper, "wide": wide, "tiny": tiny}


def preset(name: str) -> UdVlaConfig:
    """Return a preset.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in PRESETS:
        raise ValueError(f"preset {name!r}, allowed: {sorted(PRESETS)}")
    return PRESETS[name]()


def released_geometry(config: UdVlaConfig) -> UdVlaConfig:
    """Return `config` with the released vocabulary and lengths, for measurements of real length."""
    as_released = paper()
    return replace(
        config,
        tokens=as_released.tokens,
        action_len=as_released.action_len,
        max_positions=as_released.max_positions,
    )


RELEASED_GRIDS = ((25, 25), (10, 10))
"""Codes of the static view (200 x 200 px) and the wrist view (80 x 80 px)."""
