# SPDX-License-Identifier: Apache-2.0
"""From an observation to a VAE latent; planner and executor share one encoder and its last results."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

from wam.core.observation import CameraFrame, Observation
from wam.core.policy import StageBackend
from wam.models.finite import require_finite
from wam.models.images import Composite, compose, to_model_pixels

KEPT = 2
"""Results kept: the planner's newest image and the executor's."""


class VisualEncoder:
    """Composes and encodes an observation's images once for planner and executor. Safe to call from two threads.

    Args:
        encode: [1, 3, H, W] in [-1, 1] -> latent; the stage `vae_encode`, eager or replaced.
        layout: composite of the policy.
        device: where the latent is made.
        stage: what runs `encode`, for reports; None where it is not known.

    Attributes:
        encoded: images encoded so far; a repeated observation does not count.
    """

    def __init__(
        self,
        encode: Callable[[Tensor], Tensor],
        *,
        layout: Composite,
        device: torch.device | str,
        stage: StageBackend | None = None,
    ) -> None:
        self._encode = encode
        self._layout = layout
        self._device = device
        self.stage = stage
        self._lock = threading.Lock()
        self._kept: list[tuple[tuple[CameraFrame, ...], Tensor]] = []
        self.encoded = 0

    @property
    def layout(self) -> Composite:
        """Where each camera lies in the picture."""
        return self._layout

    def latent(self, observation: Observation) -> Tensor:
        """Return the latent [1, C, 1, h, w] of the observation's images.

        Raises:
            ImageError: a camera is missing.
            PolicyFault: the latent is not finite.
        """
        frames = tuple(
            observation.frames[t.camera] for t in self._layout.tiles if t.camera in observation.frames
        )
        with self._lock:
            for known, latent in self._kept:
                # Frames are immutable values, so the same objects have the same pixels.
                if len(known) == len(frames) and all(a is b for a, b in zip(known, frames, strict=True)):
                    return latent
        image = compose({name: frame.rgb for name, frame in observation.frames.items()}, self._layout)
        latent = self._encode(to_model_pixels(image, device=self._device))
        require_finite(latent, what="VAE latent of the image")
        with self._lock:
            self._kept = [(frames, latent), *self._kept][:KEPT]
            self.encoded += 1
        return latent
