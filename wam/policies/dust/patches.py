# SPDX-License-Identifier: Apache-2.0
"""A small vision that trains with the head, where no pretrained Eagle-2 is at hand.

    image -> three convolutions, one token per cell -> + place -> replaces <IMG_CONTEXT>
    token ids -> embeddings + place -> a few blocks over images and text -> norm -> linear -> features

It takes the same prompt as `EagleBackbone` and returns features of the same shape. What the world model predicts must
not learn, or the least loss is a target that says nothing: it is the picture itself, as mean colours.

Shapes: V images, G cells of an image, C channels, B batch, S tokens of the prompt, D width of the features, P tokens
and O channels of the world-model target.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wam.core.errors import InputError
from wam.policies.dust.config import TARGET_SIDE, DustConfig
from wam.policies.dust.encoders import sinusoid

STEM_STRIDE = 4


def mean_colours(pixels_V3HW: Tensor, *, cell: int) -> Tensor:
    """Return the world-model target [V, P, O]: `TARGET_SIDE` x `TARGET_SIDE` mean colours of every 2 x 2 cells.

    Args:
        pixels_V3HW: in [-1, 1].
        cell: side of a cell [px].
    """
    small = F.avg_pool2d(pixels_V3HW, 2 * cell // TARGET_SIDE)
    return F.pixel_unshuffle(small, TARGET_SIDE).flatten(2).transpose(1, 2)


class PatchBackbone(nn.Module):
    """Convolutions and a few blocks; all weights learn.

    Args:
        config: with `patches`.

    Raises:
        ValueError: it has none.
    """

    def __init__(self, config: DustConfig) -> None:
        super().__init__()
        if config.patches is None:
            raise ValueError("a network without patches has Eagle-2 for its backbone")
        self.config, self.sizes = config, config.patches
        sizes, C = config.patches, config.patches.channels
        self.stem = nn.Sequential(
            nn.Conv2d(3, C // 4, STEM_STRIDE, STEM_STRIDE),
            nn.GELU(),
            nn.Conv2d(C // 4, C // 2, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(C // 2, C, sizes.cell // STEM_STRIDE, sizes.cell // STEM_STRIDE),
        )
        self.place = nn.Parameter(0.02 * torch.randn(config.views, sizes.image_tokens, C))
        self.words = nn.Embedding(config.eagle.vocabulary, C)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                C, sizes.heads, 4 * C, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(sizes.layers)
        )
        self.norm = nn.LayerNorm(C)
        self.linear = nn.Linear(C, config.width)

    def restore_buffers(self, device: torch.device | str) -> None:
        """Do nothing: there are no buffers."""

    def see(self, pixels_V3HW: Tensor) -> Tensor:
        """Return the cells of every image, [V, G, C]; pixels are in [-1, 1].

        Args:
            pixels_V3HW: all views of the first sample, then those of the second, and so on.

        Raises:
            InputError: the images have another size than the network.
        """
        self._require_size(pixels_V3HW)
        cells = self.stem(pixels_V3HW.to(self.dtype)).flatten(2).transpose(1, 2)
        out: Tensor = (cells.unflatten(0, (-1, self.config.views)) + self.place).flatten(0, 1)
        return out

    def target(self, pixels_V3HW: Tensor) -> Tensor:
        """Return the world-model target of every image [V, P, O].

        Raises:
            InputError: the images have another size than the network.
        """
        self._require_size(pixels_V3HW)
        return mean_colours(pixels_V3HW.float(), cell=self.sizes.cell)

    def read(self, cells_VGC: Tensor, ids_BS: Tensor, mask_BS: Tensor | None = None) -> Tensor:
        """Return the state after the last block, [B, S, C]; rows that `mask_BS` hides are meaningless.

        Args:
            cells_VGC: of all images, those of the first prompt first.
            ids_BS: token ids, padded on the left.
            mask_BS: bool, True = a real token; None where nothing is padded.

        Raises:
            InputError: the prompts have places for another number of image tokens than there are.
        """
        self.require_places(ids_BS, images=len(cells_VGC))
        return self.state(cells_VGC, ids_BS, mask_BS)

    def require_places(self, ids_BS: Tensor, *, images: int) -> None:
        """Refuse prompts that have places for another number of image tokens than there are.

        Raises:
            InputError: they do.
        """
        places = int((ids_BS == self.config.eagle.image_token).sum())
        tokens = images * self.sizes.image_tokens
        if places != tokens:
            raise InputError(
                "prompt and images do not fit",
                value=f"{places} image places for {tokens} image tokens",
                allowed=f"{self.sizes.image_tokens} places per image",
                where="the cameras of the policy",
            )

    def state(self, cells_VGC: Tensor, ids_BS: Tensor, mask_BS: Tensor | None = None) -> Tensor:
        """Return what `read` returns, without a look at values: a captured graph cannot have one."""
        places = ids_BS == self.config.eagle.image_token
        tokens = cells_VGC.flatten(0, 1)
        real = torch.ones_like(places) if mask_BS is None else mask_BS
        order = sinusoid(real.long().cumsum(1), width=self.sizes.channels).to(self.dtype)
        x = (self.words(ids_BS) + order).masked_scatter(places[..., None], tokens.to(order.dtype))
        hidden = None if mask_BS is None else ~mask_BS
        for block in self.blocks:
            x = block(x, src_key_padding_mask=hidden)
        out: Tensor = self.norm(x)
        return out

    def forward(self, pixels_V3HW: Tensor, ids_BS: Tensor, mask_BS: Tensor | None = None) -> Tensor:
        """Return the features [B, S, D]."""
        out: Tensor = self.linear(self.read(self.see(pixels_V3HW), ids_BS, mask_BS))
        return out

    def _require_size(self, pixels_V3HW: Tensor) -> None:
        want = (3, self.sizes.height, self.sizes.width)
        if tuple(pixels_V3HW.shape[1:]) != want:
            raise InputError("image of the policy", value=tuple(pixels_V3HW.shape[1:]), allowed=f"{want}")

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return self.place.dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.place.device
