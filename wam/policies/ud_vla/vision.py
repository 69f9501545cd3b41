# SPDX-License-Identifier: Apache-2.0
"""Images as codes and back: Emu3's VisionVQ through transformers' class.

Shapes: H, W pixels, h = H / 8, w = W / 8 codes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import Emu3VQVAE

from wam.core.errors import ImageError
from wam.models.images import resize_bytes, to_model_pixels
from wam.policies.ud_vla.config import VisionConfig
from wam.policies.ud_vla.sequence import Grid


def grid_of(height: int, width: int, *, factor: int, what: str) -> Grid:
    """Return the codes of an image.

    Raises:
        ImageError: a side is no multiple of the pixels per code.
    """
    if height < 1 or width < 1 or height % factor or width % factor:
        raise ImageError(
            f"{what}: the sides are not multiples of {factor}",
            value=f"{height} x {width}",
            allowed=f"multiples of {factor} px",
            where="the cameras of policy.yaml",
        )
    return height // factor, width // factor


class ImageTokenizer(nn.Module):
    """The image tokenizer, frozen.

    Args:
        config: sizes.
        codes: size of the code book.
    """

    def __init__(self, config: VisionConfig, *, codes: int) -> None:
        super().__init__()
        self.config = config
        self.codes = codes
        self.vq = Emu3VQVAE(config.library(codes))

    @torch.inference_mode()
    def encode(self, rgb_HW3: npt.NDArray[np.uint8], *, height: int, width: int) -> Tensor:
        """Return the codes of an image, int64 [h, w].

        Args:
            rgb_HW3: any size.
            height: rows that it is resized to [px].
            width: columns [px].

        Raises:
            ImageError: a side is no multiple of the pixels per code.
        """
        return self.codes_of(self.pixels(rgb_HW3, height=height, width=width))[0]

    def pixels(self, rgb_HW3: npt.NDArray[np.uint8], *, height: int, width: int) -> Tensor:
        """Return an image as the encoder takes it, float32 [1, 3, height, width] in [-1, 1] on its device.

        Args:
            rgb_HW3: any size.
            height: rows that it is resized to [px].
            width: columns [px].

        Raises:
            ImageError: a side is no multiple of the pixels per code.
        """
        grid_of(height, width, factor=self.config.side_factor, what="an image to encode")
        # A copy, because torch warns of arrays that must not be written.
        resized = resize_bytes(rgb_HW3, height=height, width=width).copy()
        return to_model_pixels(resized, device=self.vq.quantize.embedding.weight.device)

    @torch.no_grad()
    def codes_of(self, pixels_B3HW: Tensor) -> Tensor:
        """Return the codes of images of one size, int64 [B, h, w].

        Args:
            pixels_B3HW: in [-1, 1], on the tokenizer's device.
        """
        # Plain numbers: the library cuts by them, and reading a tensor has no place in a captured graph.
        sizes: Any = [tuple(pixels_B3HW.shape[-2:])] * len(pixels_B3HW)
        dtype = self.vq.quantize.embedding.weight.dtype
        return torch.stack(list(self.vq.encode(pixels_B3HW.to(dtype), sizes).image_tokens))

    @torch.inference_mode()
    def decode(self, codes_hw: Tensor) -> npt.NDArray[np.uint8]:
        """Return the image of codes, uint8 [H, W, 3]."""
        pixels = self.vq.decode(codes_hw[None].to(self.vq.quantize.embedding.weight.device))
        image = ((pixels[0].float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        array: npt.NDArray[np.uint8] = image.permute(1, 2, 0).cpu().numpy()
        return array


def pixels_of(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return bytes as numbers in 0..1, float32 of the same shape."""
    return rgb.astype(np.float32) / np.float32(255.0)
