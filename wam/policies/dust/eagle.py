# SPDX-License-Identifier: Apache-2.0
"""Eagle-2 as GR00T-N1 uses it: SigLIP, pixel shuffle, MLP, the first layers of a Llama, projection.

    image -> SigLIP (after its last norm) -> 2 x 2 cells become one token -> mlp1 -> replaces <IMG_CONTEXT>
    token ids -> embeddings -> Llama, 12 of its 24 layers, final norm -> linear -> features

The towers are transformers' own classes. The state before `linear` depends on frozen weights only, so that is
what a feature cache keeps; `linear` trains with the head.

Shapes: V images, G patches per image, W vision channels, P = G / 4 image tokens, B batch, S tokens of the
prompt, L language channels, D width of the features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel, SiglipVisionConfig, SiglipVisionModel
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from wam.core.errors import InputError
from wam.policies.dust.config import EagleConfig

SHUFFLE = 2
"""Side of the cell of patches that becomes one token."""

FROZEN_PARTS = ("vision", "language", "mlp1")
"""Parts that DUST never trains; `linear` is not among them."""


def pixel_shuffle(x_VGW: Tensor) -> Tensor:
    """Fold every 2 x 2 cell of patches into one token.

    Args:
        x_VGW: patches of a square image in row-major order.

    Returns:
        [V, P, 4 W]: tokens in row-major order, channels by (row in the cell, column in the cell, channel).
    """
    V, G, W = x_VGW.shape
    cells = int(G**0.5) // SHUFFLE
    x = x_VGW.view(V, cells, SHUFFLE, cells, SHUFFLE, W).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(V, cells * cells, SHUFFLE * SHUFFLE * W)


def pool_target(x_VGW: Tensor) -> Tensor:
    """Average every 2 x 2 cell of patches: the world-model target (256 -> 64 tokens).

    Token j covers the same part of the image as token j of `pixel_shuffle`.
    """
    V, G, W = x_VGW.shape
    return pixel_shuffle(x_VGW).view(V, G // SHUFFLE**2, SHUFFLE**2, W).mean(dim=2)


class EagleBackbone(nn.Module):
    """The backbone.

    Args:
        config: sizes.
        feature_width: D.
    """

    def __init__(self, config: EagleConfig, *, feature_width: int) -> None:
        super().__init__()
        self.config = config
        self.vision = SiglipVisionModel(
            SiglipVisionConfig(
                hidden_size=config.vision_width,
                intermediate_size=config.vision_ffn,
                num_hidden_layers=config.vision_layers,
                num_attention_heads=config.vision_heads,
                image_size=config.image_size,
                patch_size=config.patch,
                hidden_act="gelu_pytorch_tanh",
                layer_norm_eps=1e-6,
                vision_use_head=False,
            )
        )
        self.language = LlamaModel(
            LlamaConfig(
                hidden_size=config.language_width,
                intermediate_size=config.language_ffn,
                num_hidden_layers=config.language_layers,
                num_attention_heads=config.language_heads,
                num_key_value_heads=config.language_heads,
                vocab_size=config.vocabulary,
                pad_token_id=None,
                rms_norm_eps=1e-5,
                rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
                use_cache=False,
            )
        )
        shuffled = SHUFFLE**2 * config.vision_width
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(shuffled),
            nn.Linear(shuffled, config.language_width),
            nn.GELU(),
            nn.Linear(config.language_width, config.language_width),
        )
        self.linear = nn.Linear(config.language_width, feature_width)

    def freeze(self, *, linear: bool = False) -> None:
        """Stop gradients to the pretrained parts, and to the projection too where `linear` says so."""
        for name in (*FROZEN_PARTS, *(("linear",) if linear else ())):
            self.get_submodule(name).requires_grad_(False).eval()

    def restore_buffers(self, device: torch.device | str) -> None:
        """Make the buffers that no checkpoint holds, after a build on the meta device."""
        embeddings = self.vision.embeddings
        positions = torch.arange(embeddings.num_positions, device=device)[None]
        embeddings.register_buffer("position_ids", positions, persistent=False)
        self.language.rotary_emb = LlamaRotaryEmbedding(self.language.config).to(device)

    def see(self, pixels_V3HW: Tensor) -> Tensor:
        """Return the patches of every image after the tower's last norm, [V, G, W]; pixels are in [-1, 1].

        Raises:
            InputError: the images have another size than the tower.
        """
        size = self.config.image_size
        if tuple(pixels_V3HW.shape[1:]) != (3, size, size):
            raise InputError(
                "image of the policy", value=tuple(pixels_V3HW.shape[1:]), allowed=f"(3, {size}, {size})"
            )
        out: Tensor = self.vision(pixel_values=pixels_V3HW.to(self.dtype)).last_hidden_state
        return out

    def target(self, pixels_V3HW: Tensor) -> Tensor:
        """Return the world-model target of every image [V, P, W]."""
        return pool_target(self.see(pixels_V3HW))

    def read(self, patches_VGW: Tensor, ids_BS: Tensor, mask_BS: Tensor | None = None) -> Tensor:
        """Return the language model's state [B, S, L]; rows that `mask_BS` hides are meaningless.

        Args:
            patches_VGW: of all images, those of the first prompt first.
            ids_BS: token ids, padded on the left.
            mask_BS: bool, True = a real token; None where nothing is padded.

        Raises:
            InputError: the prompts have places for another number of image tokens than there are.
        """
        self.require_places(ids_BS, images=len(patches_VGW))
        return self.state(patches_VGW, ids_BS, mask_BS)

    def require_places(self, ids_BS: Tensor, *, images: int) -> None:
        """Refuse prompts that have places for another number of image tokens than there are.

        Raises:
            InputError: they do.
        """
        places, tokens = int((ids_BS == self.config.image_token).sum()), images * self.config.image_tokens
        if places != tokens:
            raise InputError(
                "prompt and images do not fit",
                value=f"{places} image places for {tokens} image tokens",
                allowed=f"{self.config.image_tokens} places per image",
                where="the cameras of the policy",
            )

    def state(self, patches_VGW: Tensor, ids_BS: Tensor, mask_BS: Tensor | None = None) -> Tensor:
        """Return what `read` returns, without a look at values: a captured graph cannot have one."""
        places = ids_BS == self.config.image_token
        tokens = self.mlp1(pixel_shuffle(patches_VGW)).flatten(0, 1)
        embedded = self.language.get_input_embeddings()(ids_BS).masked_scatter(places[..., None], tokens)
        mask = None if mask_BS is None else mask_BS.long()
        out: Tensor = self.language(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        return out

    def forward(self, pixels_V3HW: Tensor, ids_BS: Tensor, mask_BS: Tensor | None = None) -> Tensor:
        """Return the features [B, S, D]."""
        out: Tensor = self.linear(self.read(self.see(pixels_V3HW), ids_BS, mask_BS))
        return out

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the towers; the projection may learn in another."""
        return next(self.mlp1.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Device of the towers."""
        return next(self.mlp1.parameters()).device
