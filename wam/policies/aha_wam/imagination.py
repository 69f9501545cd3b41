# SPDX-License-Identifier: Apache-2.0
"""What AHA-WAM's video DiT expects to see: the future that it was trained to predict, and that no action needs.

At deployment the planner runs the newest image alone (paper Eq. 2). Here it runs once more, with noise in place of the
next latent frame, and integrates it as the executor does its actions: `STEPS` passes over twice the tokens of a
prefill. The latent is decoded, and its last picture compared with the image of that time, as pixels.

Shapes: B batch, C latent channels, F latent frames, S tokens of one frame, h, w latent cells, H, W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wam.core.context import ContextHeader
from wam.core.errors import BundleError
from wam.core.observation import CameraFrame, Observation
from wam.core.policy import Features
from wam.models.images import Composite, compose
from wam.models.layers.flow import TRAIN_TIMESTEPS, integrate, sigma_grid
from wam.models.layers.rope import rope_3d, rotate
from wam.policies.aha_wam.config import RGB, STRIDE, AhaWamConfig
from wam.policies.aha_wam.memory import MemoryView
from wam.policies.aha_wam.vae import autoencoder, decode_video
from wam.policies.aha_wam.video_dit import LayerKv, VideoDit, frame_mask
from wam.policies.results import chunk_seed

STEPS = 10
"""Integration steps, as many as the paper's executor takes."""

FRAMES_PER_LATENT = 4
"""Pictures of the video that one latent frame stands for."""

PIXELS = "pixels"
"""Name of the feature: float32 [3, H, W], 0..1, the composite of all cameras."""

Decode = Callable[[Tensor], Tensor]
"""From latents [1, C, 2, h, w], the newest image and the future, to the future picture [3, H, W] in [-1, 1]."""


@dataclass(frozen=True, slots=True)
class PlannedFrom:
    """What a plan was made from.

    Attributes:
        header: of the context.
        latent: of the image, [1, C, 1, h, w].
        text: cross-attention K/V of the planner.
        view: the memory as the plan read it.
    """

    header: ContextHeader
    latent: Tensor
    text: LayerKv
    view: MemoryView


class ExpectedVideo:
    """The next latent frame after a plan, sampled at the first question; an `Imagination`.

    Args:
        video: the planner's network.
        config: its sizes.
        seen: what the plan was made from.
        layout: where each camera lies in the picture.
        decode: turns the latents into a picture.
        period_ns: of the control rows [ns].
    """

    def __init__(
        self,
        video: VideoDit,
        config: AhaWamConfig,
        seen: PlannedFrom,
        *,
        layout: Composite,
        decode: Decode,
        period_ns: int,
    ) -> None:
        self._video, self._config, self._seen = video, config, seen
        self._layout, self._decode = layout, decode
        rows = FRAMES_PER_LATENT * config.temporal_stride
        self._target_ns = seen.header.stamp_ns + rows * period_ns
        self._pixels: np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None = None

    @property
    def stamp_ns(self) -> int:
        """Acquisition time of the plan's image [ns]."""
        return self._seen.header.stamp_ns

    @property
    def target_stamp_ns(self) -> int:
        """Time of the last picture of the next latent frame [ns]."""
        return self._target_ns

    def features(self) -> Features:
        """Return the expected picture, as `AhaPlanner.perceive` returns that of an observation."""
        if self._pixels is None:
            with torch.inference_mode():
                latents = torch.cat((self._seen.latent.float(), self._sample()), dim=2)
                picture = self._decode(latents).float().clamp(-1.0, 1.0)
            pixels = ((picture + 1.0) / 2.0).cpu().numpy().astype(np.float32)
            pixels.flags.writeable = False
            self._pixels = pixels
        return {PIXELS: self._pixels}

    def frame(self, camera: str) -> CameraFrame | None:
        """Return the expected image of a camera, of the size at which the policy sees it; None for another camera."""
        tile = next((tile for tile in self._layout.tiles if tile.camera == camera), None)
        if tile is None:
            return None
        part = self.features()[PIXELS][
            :, tile.top : tile.top + tile.height, tile.left : tile.left + tile.width
        ]
        rgb = np.ascontiguousarray(np.rint(255.0 * part.transpose(1, 2, 0)).astype(np.uint8))
        return CameraFrame(camera, self._target_ns, rgb)

    def _sample(self) -> Tensor:
        """Return the next latent frame, float32 [1, C, 1, h, w]."""
        c, seen = self._config, self._seen
        device, S = seen.latent.device, c.frame_tokens
        generator = torch.Generator().manual_seed(chunk_seed(0, header=seen.header, index=0))
        noise = torch.randn(seen.latent.shape, generator=generator).to(device)
        own = torch.tensor([0, FRAMES_PER_LATENT], device=device) + seen.view.own_position
        rope = rope_3d(own, rows=c.token_rows, columns=c.token_columns, head_dim=c.video.head_dim)
        history = self._history()
        mask = frame_mask(2, S, only_first=c.first_frame_causal, device=device)
        if history is not None:
            read = torch.ones(2 * S, history.k.shape[2], dtype=torch.bool, device=device)
            mask = torch.cat((read, mask), dim=1)
        sigmas = sigma_grid(STEPS, shift_factor=c.infer_shift)

        def velocity(x: Tensor, i: int) -> Tensor:
            times = torch.zeros(1, 2 * S, device=device)
            times[:, S:] = TRAIN_TIMESTEPS * sigmas[i]
            z = torch.cat((seen.latent.float(), x), dim=2)
            out: Tensor
            out, _ = self._video(z, times, text=seen.text, rope=rope, mask=mask[None, None], history=history)
            return out[:, :, 1:]

        return integrate(velocity, noise, sigmas=sigmas)

    def _history(self) -> LayerKv | None:
        """Return the memory as the pass reads it: keys rotated."""
        c, view = self._config, self._seen.view
        stacked = view.stacked()
        if stacked is None:
            return None
        positions = torch.tensor(view.entry_positions, device=stacked.k.device)
        rope = rope_3d(positions, rows=c.token_rows, columns=c.token_columns, head_dim=c.video.head_dim)
        keys = [rotate(layer, rope, heads=c.video.heads) for layer in stacked.k]
        return LayerKv(torch.stack(keys), stacked.v)


def perceived(observation: Observation, layout: Composite) -> Features:
    """Return the picture of an observation as the networks see it: float32 [3, H, W], 0..1.

    Raises:
        ImageError: a camera is missing.
    """
    image = compose({name: frame.rgb for name, frame in observation.frames.items()}, layout)
    return {PIXELS: np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32) / 255.0}


def pixel_decoder() -> Decode:
    """Return the decoder of pixel latents: the pixels of each cell, without its position."""

    def decode(latents: Tensor) -> Tensor:
        cells = latents[0, : RGB * STRIDE**2, -1]
        return F.pixel_shuffle(cells[None], STRIDE)[0]

    return decode


def video_decoder(state: Mapping[str, Tensor], config: AhaWamConfig, *, device: torch.device | str) -> Decode:
    """Return the decoder of the video VAE.

    Args:
        state: `AutoencoderKLWan`'s tensors of the decoder.
        config: sizes.
        device: where it runs.

    Raises:
        BundleError: a tensor is missing or has another shape.
        MissingDependency: diffusers is not installed.
    """
    with torch.device("meta"):
        vae = autoencoder(config.vae)
    vae.encoder, vae.quant_conv = torch.nn.Identity(), torch.nn.Identity()
    try:
        missing, unexpected = vae.load_state_dict(
            {name: tensor.float() for name, tensor in state.items()}, strict=False, assign=True
        )
    except RuntimeError as error:
        raise BundleError(f"the VAE's decoder does not fit its sizes ({error})") from error
    if missing or unexpected:
        raise BundleError(f"the VAE's decoder lacks {missing[:4]}, and {unexpected[:4]} are unknown")
    vae = vae.to(device).eval().requires_grad_(False)

    def decode(latents: Tensor) -> Tensor:
        return decode_video(vae, latents, config=config.vae)[0, :, -1]

    return decode
