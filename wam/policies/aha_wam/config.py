# SPDX-License-Identifier: Apache-2.0
"""Sizes of an AHA-WAM network, and the three presets.

Everything that decides a tensor's shape or a checkpoint's meaning is here; what a deployment may choose
(steps, seed, device) is not.
"""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

STRIDE = 16
"""Pixels per latent cell, per axis."""

RGB = 3
POSITION_CHANNELS = 6
"""Where a cell lies, in pixel latents: two coordinates, and sine and cosine of each."""


class Latents(str, enum.Enum):
    """What the networks see of an image."""

    VAE = "vae"  # latents of the frozen video VAE, as released
    PIXELS = (
        "pixels"  # the pixels of each cell and where it lies; the networks' own first layers learn to see
    )


@dataclass(frozen=True, slots=True)
class ExpertConfig:
    """One transformer of the mixture.

    Attributes:
        layers: blocks; equal in both experts.
        width: model width D.
        ffn: hidden width of the feed-forward.
        heads: attention heads; equal in both experts.
        head_dim: channels per head; equal in both experts.
        freq_dim: channels of the sinusoidal time embedding.
        eps: of the norms.
    """

    layers: int
    width: int
    ffn: int
    heads: int
    head_dim: int
    freq_dim: int
    eps: float = 1e-6

    @property
    def inner(self) -> int:
        """Attention width I = heads * head_dim."""
        return self.heads * self.head_dim


@dataclass(frozen=True, slots=True)
class VaeConfig:
    """Sizes of the Wan 2.2 video VAE (names of diffusers' `AutoencoderKLWan`).

    Attributes:
        base_dim: channels of the first encoder stage.
        decoder_base_dim: channels of the last decoder stage.
        z_dim: latent channels.
        dim_mult: channel factors of the stages.
        num_res_blocks: residual blocks per stage.
        temporal_downsample: which stages halve the time axis.
        patch: pixels folded into channels before the first stage.
    """

    base_dim: int = 160
    decoder_base_dim: int = 256
    z_dim: int = 48
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    temporal_downsample: tuple[bool, ...] = (False, True, True)
    patch: int = 2


@dataclass(frozen=True, slots=True)
class AhaWamConfig:
    """An AHA-WAM network.

    Attributes:
        video: the planner's transformer.
        action: the executor's transformer.
        text_dim: width E of a text embedding row.
        context_len: text rows T.
        state_dim: proprioceptive values.
        action_dim: values per action row.
        image_height: rows of the composite image [px].
        image_width: columns of the composite image [px].
        patch: latent cells per video token, per spatial axis.
        queries: observation queries of OVCR; 0 removes OVCR (naive asynchronous reuse).
        memory_window: most earlier prefills that a prefill reads; 0 removes the memory.
        memory_spacing_rows: control rows between two memory entries, as in training.
        temporal_stride: control rows per unit of the temporal rotary position.
        chunk_rows: rows that are denoised together.
        horizon_rows: rows, counted from the planner's image, that training covered.
        prefix_rows: most first rows of a chunk that training gave clean, so that a chunk can be conditioned on as many;
            0: none, as released.
        proprio_in_planner: the state token is part of the planner's text too (Fast-WAM).
        first_frame_causal: training mask in which only frame 0 is causal (Fast-WAM), else every frame is.
        train_shift: shift of the training noise levels.
        infer_shift: shift of the sampler's noise levels.
        latents: what the networks see of an image.
        vae: the video VAE, where they see its latents.
    """

    video: ExpertConfig
    action: ExpertConfig
    text_dim: int
    context_len: int
    state_dim: int
    action_dim: int
    image_height: int
    image_width: int
    patch: int = 2
    queries: int = 32
    memory_window: int = 6
    memory_spacing_rows: int = 64
    temporal_stride: int = 8
    chunk_rows: int = 16
    horizon_rows: int = 64
    prefix_rows: int = 0
    proprio_in_planner: bool = False
    first_frame_causal: bool = False
    train_shift: float = 5.0
    infer_shift: float = 5.0
    latents: Latents = Latents.VAE
    vae: VaeConfig = field(default_factory=VaeConfig)

    def __post_init__(self) -> None:
        for what in ("layers", "heads", "head_dim"):
            mine, theirs = getattr(self.video, what), getattr(self.action, what)
            if mine != theirs:
                raise ValueError(
                    f"video.{what}={mine} but action.{what}={theirs}; joint attention needs them equal"
                )
        if self.video.head_dim % 2 or self.video.head_dim < 6:
            raise ValueError(
                f"head_dim={self.video.head_dim} cannot be split over three rotary axes of pairs"
            )
        cell = STRIDE * self.patch
        for what in ("image_height", "image_width"):
            if getattr(self, what) % cell or getattr(self, what) <= 0:
                raise ValueError(f"{what}={getattr(self, what)} is not a positive multiple of {cell}")
        if self.horizon_rows % self.chunk_rows:
            raise ValueError(
                f"horizon_rows={self.horizon_rows} is not a multiple of chunk_rows={self.chunk_rows}"
            )
        if type(self.prefix_rows) is not int or not 0 <= self.prefix_rows < self.chunk_rows:
            raise ValueError(
                f"prefix_rows={self.prefix_rows!r} must be an integer from 0 to {self.chunk_rows - 1}, one less than "
                f"chunk_rows"
            )
        if self.memory_window < 0 or self.queries < 0:
            raise ValueError(
                f"memory_window={self.memory_window} and queries={self.queries} must not be negative"
            )
        for what in (
            "text_dim",
            "context_len",
            "state_dim",
            "action_dim",
            "memory_spacing_rows",
            "temporal_stride",
        ):
            if getattr(self, what) < 1:
                raise ValueError(f"{what}={getattr(self, what)} must be at least 1")
        for label, expert in (("video", self.video), ("action", self.action)):
            if expert.freq_dim % 2 or min(expert.layers, expert.heads, expert.ffn, expert.width) < 1:
                raise ValueError(
                    f"{label}: freq_dim={expert.freq_dim} must be even and all sizes positive: {expert}"
                )

    @property
    def latent_channels(self) -> int:
        """Channels of a latent cell."""
        if self.latents is Latents.PIXELS:
            return RGB * STRIDE**2 + POSITION_CHANNELS
        return self.vae.z_dim

    @property
    def latent_rows(self) -> int:
        """Rows of the latent."""
        return self.image_height // STRIDE

    @property
    def latent_columns(self) -> int:
        """Columns of the latent."""
        return self.image_width // STRIDE

    @property
    def token_rows(self) -> int:
        """Rows of video tokens."""
        return self.latent_rows // self.patch

    @property
    def token_columns(self) -> int:
        """Columns of video tokens."""
        return self.latent_columns // self.patch

    @property
    def frame_tokens(self) -> int:
        """Tokens of one video frame, S."""
        return self.token_rows * self.token_columns

    @property
    def chunks(self) -> int:
        """Chunks in the horizon."""
        return self.horizon_rows // self.chunk_rows

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for `policy.yaml`."""
        plain = asdict(self)
        if not self.prefix_rows:  # Bundles of before the option was there keep their contract hash.
            del plain["prefix_rows"]
        plain["latents"] = self.latents.value
        plain["vae"]["dim_mult"] = list(self.vae.dim_mult)
        plain["vae"]["temporal_downsample"] = list(self.vae.temporal_downsample)
        return plain

    @staticmethod
    def from_dict(values: dict[str, Any]) -> AhaWamConfig:
        """Read the values that `to_dict` wrote.

        Raises:
            ValueError: a key is unknown or missing, or the sizes are impossible.
        """
        known = {f.name for f in fields(AhaWamConfig)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown keys {unknown}; known: {sorted(known)}")
        try:
            vae = dict(values["vae"])
            for name in ("dim_mult", "temporal_downsample"):
                vae[name] = tuple(vae[name])
            nested = {
                "video": ExpertConfig(**values["video"]),
                "action": ExpertConfig(**values["action"]),
                "vae": VaeConfig(**vae),
                "latents": Latents(values.get("latents", Latents.VAE)),
            }
            return AhaWamConfig(**{**values, **nested})
        except (KeyError, TypeError) as error:
            raise ValueError(f"incomplete or unknown keys: {error}") from error


def paper() -> AhaWamConfig:
    """Return the sizes of the paper and of the released RoboTwin checkpoint (Wan2.2-TI2V-5B)."""
    shared = {"layers": 30, "heads": 24, "head_dim": 128, "freq_dim": 256}
    return AhaWamConfig(
        video=ExpertConfig(width=3072, ffn=14336, **shared),
        action=ExpertConfig(width=1024, ffn=4096, **shared),
        text_dim=4096,
        context_len=128,
        state_dim=14,
        action_dim=14,
        image_height=384,
        image_width=320,
    )


def fast_wam() -> AhaWamConfig:
    """Return Fast-WAM: one 32-row chunk per prefill, no memory, no routing, the state token in both experts."""
    return replace(
        paper(),
        queries=0,
        memory_window=0,
        chunk_rows=32,
        horizon_rows=32,
        proprio_in_planner=True,
        first_frame_causal=True,
    )


def tiny() -> AhaWamConfig:
    """Return a network that runs in milliseconds and trains in minutes on two CPU cores."""
    shared = {"layers": 3, "heads": 2, "head_dim": 32, "freq_dim": 32}
    return AhaWamConfig(
        video=ExpertConfig(width=64, ffn=160, **shared),
        action=ExpertConfig(width=48, ffn=96, **shared),
        text_dim=40,
        context_len=32,
        state_dim=14,
        action_dim=14,
        image_height=96,
        image_width=64,
        vae=VaeConfig(base_dim=8, decoder_base_dim=8),
    )


PRESETS = {"paper": paper, "tiny": tiny, "fast_wam": fast_wam}


def preset(name: str) -> AhaWamConfig:
    """Return a preset by name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; there are {sorted(PRESETS)}")
    return PRESETS[name]()
