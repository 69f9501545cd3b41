# SPDX-License-Identifier: Apache-2.0
"""Sizes of a DUST network, and its presets.

Everything that decides a tensor's shape or a checkpoint's meaning is here; what a deployment may choose
(steps, q, rule, seed, device) is in `wam.policies.dust.schedule`. The readings, where the paper is silent, are
in `wam.policies.dust.readings`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from wam.policies.dust.readings import (
    ActionPositions,
    BlockStyle,
    Conditioning,
    CrossLayer,
    HeadLayout,
    HeadStream,
)


@dataclass(frozen=True, slots=True)
class EagleConfig:
    """Sizes of the Eagle-2 backbone of GR00T-N1.

    Attributes:
        image_size: rows and columns of an image [px].
        patch: rows and columns of a patch [px].
        vision_width: channels of the SigLIP tower.
        vision_layers: its blocks.
        vision_heads: its attention heads.
        vision_ffn: hidden width of its feed-forward.
        language_width: channels of the language model.
        language_layers: blocks that are kept; the features are the state after the last, normalised.
        language_heads: its attention heads.
        language_ffn: hidden width of its feed-forward.
        vocabulary: rows of the embedding table.
        image_token: id that is replaced by image tokens.
        pad_token: id used for padding on the left.
        rope_theta: base of its rotary embedding.
    """

    image_size: int = 224
    patch: int = 14
    vision_width: int = 1152
    vision_layers: int = 27
    vision_heads: int = 16
    vision_ffn: int = 4304
    language_width: int = 2048
    language_layers: int = 12
    language_heads: int = 32
    language_ffn: int = 8192
    vocabulary: int = 49164
    image_token: int = 49154
    pad_token: int = 2
    rope_theta: float = 130_000.0

    def __post_init__(self) -> None:
        if self.image_size % self.patch or self.side % 2:
            raise ValueError(
                f"image_size={self.image_size} and patch={self.patch} give {self.image_size / self.patch} patches "
                "a side, which must be an even number"
            )
        for label in ("vision", "language"):
            width, heads = getattr(self, f"{label}_width"), getattr(self, f"{label}_heads")
            if width % heads:
                raise ValueError(f"{label}_width={width} is not a multiple of {label}_heads={heads}")
        if not 0 <= self.image_token < self.vocabulary or not 0 <= self.pad_token < self.vocabulary:
            raise ValueError(
                f"image_token={self.image_token} and pad_token={self.pad_token} must be in 0..{self.vocabulary - 1}"
            )

    @property
    def side(self) -> int:
        """Patches along one side of an image."""
        return self.image_size // self.patch

    @property
    def image_tokens(self) -> int:
        """Tokens of one image in the language model (and of one world-model target)."""
        return (self.side // 2) ** 2


@dataclass(frozen=True, slots=True)
class PatchConfig:
    """Sizes of a small vision that trains with the head, in place of Eagle-2.

    Attributes:
        height: rows of an image [px].
        width: columns [px].
        cell: rows and columns of the part of an image that becomes one token [px].
        channels: width of its tokens.
        layers: blocks over the tokens of all views and the instruction.
        heads: their attention heads.
    """

    height: int = 96
    width: int = 128
    cell: int = 16
    channels: int = 96
    layers: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            side = getattr(self, name)
            if side < 1 or side % (2 * self.cell):
                raise ValueError(f"{name}={side} must be a multiple of twice the cell of {self.cell} px")
        if self.cell < 4 or self.cell % 4:
            raise ValueError(f"cell={self.cell} must be a multiple of 4")
        if self.channels < 4 or self.channels % 4 or self.heads < 1 or self.channels % self.heads:
            raise ValueError(f"channels={self.channels} must be a multiple of 4 and of heads={self.heads}")

    @property
    def image_tokens(self) -> int:
        """Tokens of one image."""
        return (self.height // self.cell) * (self.width // self.cell)

    @property
    def target_grid(self) -> tuple[int, int]:
        """Rows and columns of the world-model target: one token for 2 x 2 cells."""
        return self.height // (2 * self.cell), self.width // (2 * self.cell)


TARGET_SIDE = 4
"""A token of the world-model target holds so many mean colours along each side, where there are patches."""


@dataclass(frozen=True, slots=True)
class DustConfig:
    """A DUST network.

    Attributes:
        heads: attention heads of the head.
        head_dim: channels per head; the width D is heads * head_dim.
        mm_layers: blocks of the dual-stream trunk.
        tail_layers: blocks of each modality's own tail.
        hidden: width between the last block and the decoders.
        state_dim: proprioceptive values, padded.
        action_dim: values per action row, padded.
        action_rows: rows of a chunk, k.
        embodiments: slots of the state and action encoders.
        grid: image tokens of the world-model target along one side; `patches` has its own.
        views: cameras that the policy was trained with.
        target_view: which of them the world model predicts (reading 17).
        style: body of the trunk blocks (reading 1).
        conditioning: where the features enter the trunk (reading 2).
        layout: which streams there are.
        shared_time: one time encoder for both streams (reading 4).
        action_positions: what is added to action tokens (reading 6).
        max_positions: rows of a learned position table.
        trunk_dropout: in training, in trunk blocks (reading 14).
        tail_dropout: in training, in tail blocks.
        mask_features: padding rows of the features are hidden; False is what GR00T-N1 does.
        normalise_target: the world-model target is standardised per channel by numbers in the checkpoint.
        future_tokens: learned tokens after the actions, for the alignment baseline; 0 has none.
        eagle: the backbone.
        patches: a small vision that trains with the head instead; of `eagle` then only the vocabulary counts.
    """

    heads: int = 32
    head_dim: int = 48
    mm_layers: int = 12
    tail_layers: int = 4
    hidden: int = 1024
    state_dim: int = 64
    action_dim: int = 32
    action_rows: int = 16
    embodiments: int = 32
    grid: int = 8
    views: int = 1
    target_view: int = 0
    style: BlockStyle = BlockStyle.SD3
    conditioning: Conditioning = Conditioning.ALTERNATE
    layout: HeadLayout = HeadLayout.DUAL
    shared_time: bool = False
    action_positions: ActionPositions = ActionPositions.SINUSOID
    max_positions: int = 1024
    trunk_dropout: float = 0.0
    tail_dropout: float = 0.2
    mask_features: bool = True
    normalise_target: bool = False
    future_tokens: int = 0
    eagle: EagleConfig = field(default_factory=EagleConfig)
    patches: PatchConfig | None = None

    def __post_init__(self) -> None:
        for what in (
            "heads",
            "head_dim",
            "hidden",
            "state_dim",
            "action_dim",
            "action_rows",
            "embodiments",
            "views",
        ):
            if getattr(self, what) < 1:
                raise ValueError(f"{what}={getattr(self, what)} must be at least 1")
        if self.mm_layers < 0 or self.tail_layers < 0 or self.mm_layers + self.tail_layers < 1:
            raise ValueError(f"mm_layers={self.mm_layers} and tail_layers={self.tail_layers} give no network")
        axes = 1 if self.layout is HeadLayout.ACTION_ONLY else 2
        if self.width % (2 * axes):
            raise ValueError(
                f"heads*head_dim={self.width} must be a multiple of {2 * axes} for sinusoids on {axes} axes"
            )
        if self.layout is HeadLayout.SINGLE and (self.tail_layers or self.style is not BlockStyle.N1):
            raise ValueError(
                f"layout=single has one set of n1 blocks and no tails: tail_layers={self.tail_layers}, "
                f"style={self.style.value}"
            )
        if self.layout is HeadLayout.ACTION_ONLY and self.mm_layers:
            raise ValueError(f"layout=action-only has no trunk: mm_layers={self.mm_layers}")
        if self.future_tokens and self.layout is not HeadLayout.ACTION_ONLY:
            raise ValueError(f"future_tokens={self.future_tokens} belong to layout=action-only")
        eagle_sees = self.patches is None and self.layout is not HeadLayout.ACTION_ONLY
        if eagle_sees and self.grid**2 != self.eagle.image_tokens:
            raise ValueError(
                f"grid={self.grid} gives {self.grid**2} target tokens, the backbone {self.eagle.image_tokens}"
            )
        if not 0 <= self.target_view < self.views:
            raise ValueError(f"target_view={self.target_view} must be in 0..{self.views - 1}")
        if self.action_rows > self.max_positions:
            raise ValueError(f"action_rows={self.action_rows} exceed max_positions={self.max_positions}")

    @property
    def width(self) -> int:
        """Model width D; the projected features have it too."""
        return self.heads * self.head_dim

    @property
    def vision_dim(self) -> int:
        """Channels of the world-model target."""
        return self.eagle.vision_width if self.patches is None else 3 * TARGET_SIDE**2

    @property
    def target_grid(self) -> tuple[int, int]:
        """Rows and columns of the world-model target."""
        return (self.grid, self.grid) if self.patches is None else self.patches.target_grid

    @property
    def vision_tokens(self) -> int:
        """Tokens of the world-model target."""
        rows, columns = self.target_grid
        return rows * columns

    @property
    def image_size(self) -> tuple[int, int]:
        """Rows and columns of an image as the policy sees it [px]."""
        if self.patches is None:
            return self.eagle.image_size, self.eagle.image_size
        return self.patches.height, self.patches.width

    @property
    def image_tokens(self) -> int:
        """Places of one image in the prompt."""
        return (self.eagle if self.patches is None else self.patches).image_tokens

    @property
    def streams(self) -> tuple[HeadStream, ...]:
        """The modalities of this layout."""
        return (
            (HeadStream.ACTION,)
            if self.layout is HeadLayout.ACTION_ONLY
            else (HeadStream.ACTION, HeadStream.VISION)
        )

    @property
    def weight_streams(self) -> tuple[HeadStream, ...]:
        """The modalities that have block weights of their own."""
        return self.streams if self.layout is HeadLayout.DUAL else (HeadStream.ACTION,)

    def is_joint(self, index: int) -> bool:
        """Return whether trunk block `index` lets the streams attend to each other."""
        return self.conditioning is Conditioning.EVERY or index % 2 == 1

    def tail_crosses(self, index: int) -> bool:
        """Return whether tail block `index` attends to the features; the parity of the trunk continues (reading 3)."""
        return (self.mm_layers + index) % 2 == 0

    def cross_layers(self) -> tuple[CrossLayer, ...]:
        """Return every place where the features are read, in the order of the planner context."""
        layers = []
        for i in range(self.mm_layers):
            if self.conditioning is Conditioning.EVERY or not self.is_joint(i):
                prefix = "x" if self.conditioning is Conditioning.EVERY else "to"
                layers += [CrossLayer("mm", i, stream, prefix) for stream in self.weight_streams]
        for stream in self.weight_streams:
            layers += [
                CrossLayer("tail", j, stream, "to") for j in range(self.tail_layers) if self.tail_crosses(j)
            ]
        return tuple(layers)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for `policy.yaml`."""
        plain = asdict(self)
        if self.patches is None:
            del plain["patches"]
        return {name: value.value if isinstance(value, enum.Enum) else value for name, value in plain.items()}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> DustConfig:
        """Read the values that `to_dict` wrote.

        Raises:
            ValueError: a key is unknown or missing, or the sizes are impossible.
        """
        known = {f.name for f in fields(DustConfig)}
        if set(values) | {"patches"} != known:
            missing = known - set(values) - {"patches"}
            raise ValueError(f"missing keys {sorted(missing)}, unknown keys {sorted(set(values) - known)}")
        enums = {
            "style": BlockStyle,
            "conditioning": Conditioning,
            "layout": HeadLayout,
            "action_positions": ActionPositions,
        }
        read: dict[str, Any] = {
            name: enums[name](value) if name in enums else value for name, value in values.items()
        }
        try:
            read["eagle"] = EagleConfig(**values["eagle"])
            if values.get("patches") is not None:
                read["patches"] = PatchConfig(**values["patches"])
        except TypeError as error:
            raise ValueError(f"eagle, patches: {error}") from error
        return DustConfig(**read)


def paper() -> DustConfig:
    """Return the sizes of the paper: 12 + 4 layers, 1 + 16 + 64 tokens, GR00T-N1's backbone and encoders."""
    return DustConfig()


def gr00t_n1() -> DustConfig:
    """Return GR00T-N1-2B: no world model, 16 blocks, learned positions, features not masked."""
    return replace(
        paper(),
        mm_layers=0,
        tail_layers=16,
        style=BlockStyle.N1,
        layout=HeadLayout.ACTION_ONLY,
        action_positions=ActionPositions.LEARNED,
        mask_features=False,
    )


def single_stream(config: DustConfig) -> DustConfig:
    """Return the ablation of Table 6: one stream of GR00T-N1 blocks over all tokens, as deep as `config`."""
    return replace(
        config,
        mm_layers=config.mm_layers + config.tail_layers,
        tail_layers=0,
        style=BlockStyle.N1,
        conditioning=Conditioning.ALTERNATE,
        layout=HeadLayout.SINGLE,
        shared_time=True,
    )


def with_depth(config: DustConfig, mm_layers: int) -> DustConfig:
    """Return the ablation of Table 6: `mm_layers` joint blocks, the rest of the depth in the tails."""
    total = config.mm_layers + config.tail_layers
    if not 0 <= mm_layers <= total:
        raise ValueError(f"mm_layers={mm_layers} must be in 0..{total}")
    return replace(config, mm_layers=mm_layers, tail_layers=total - mm_layers)


def tiny() -> DustConfig:
    """Return a network that runs in milliseconds and trains in seconds on two CPU cores."""
    return DustConfig(
        heads=4,
        head_dim=12,
        mm_layers=4,
        tail_layers=2,
        hidden=96,
        state_dim=12,
        action_dim=10,
        action_rows=16,
        embodiments=3,
        grid=2,
        views=2,
        max_positions=32,
        eagle=EagleConfig(
            image_size=56,
            patch=14,
            vision_width=24,
            vision_layers=2,
            vision_heads=2,
            vision_ffn=48,
            language_width=32,
            language_layers=3,
            language_heads=4,
            language_ffn=64,
            vocabulary=512,
            image_token=500,
            pad_token=2,
        ),
    )


PRESETS = {"paper": paper, "tiny": tiny, "gr00t_n1": gr00t_n1}


def preset(name: str) -> DustConfig:
    """Return a preset by name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; there are {sorted(PRESETS)}")
    return PRESETS[name]()
