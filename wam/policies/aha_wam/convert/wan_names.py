# SPDX-License-Identifier: Apache-2.0
"""Tensor names of the Wan 2.2 parts in their original files, translated to the library classes.

Two parts: the video DiT (original <-> diffusers `WanTransformer3DModel`) and the VAE (original -> diffusers
`AutoencoderKLWan`); the names of the text encoder are in `wam.models.text.umt5`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_DIT_RULES: tuple[tuple[str, str], ...] = (
    (r"^text_embedding\.0\.", "condition_embedder.text_embedder.linear_1."),
    (r"^text_embedding\.2\.", "condition_embedder.text_embedder.linear_2."),
    (r"^time_embedding\.0\.", "condition_embedder.time_embedder.linear_1."),
    (r"^time_embedding\.2\.", "condition_embedder.time_embedder.linear_2."),
    (r"^time_projection\.1\.", "condition_embedder.time_proj."),
    (r"^head\.modulation$", "scale_shift_table"),
    (r"^head\.head\.", "proj_out."),
    (r"^(blocks\.\d+)\.modulation$", r"\1.scale_shift_table"),
    (r"^(blocks\.\d+)\.self_attn\.([qkv])\.", r"\1.attn1.to_\2."),
    (r"^(blocks\.\d+)\.self_attn\.o\.", r"\1.attn1.to_out.0."),
    (r"^(blocks\.\d+)\.self_attn\.", r"\1.attn1."),
    (r"^(blocks\.\d+)\.cross_attn\.([qkv])\.", r"\1.attn2.to_\2."),
    (r"^(blocks\.\d+)\.cross_attn\.o\.", r"\1.attn2.to_out.0."),
    (r"^(blocks\.\d+)\.cross_attn\.", r"\1.attn2."),
    (r"^(blocks\.\d+)\.norm3\.", r"\1.norm2."),
    (r"^(blocks\.\d+)\.ffn\.0\.", r"\1.ffn.net.0.proj."),
    (r"^(blocks\.\d+)\.ffn\.2\.", r"\1.ffn.net.2."),
)


def dit_to_diffusers(name: str) -> str:
    """Return the diffusers name of a tensor of the video DiT; other names come back unchanged.

    The affine norm before cross-attention is `norm3` in the original and `norm2` in diffusers.
    """
    for pattern, replacement in _DIT_RULES:
        renamed, count = re.subn(pattern, replacement, name)
        if count:
            return renamed
    return name


def dit_from_diffusers(tensors: Mapping[str, Tensor], *, original_names: list[str]) -> dict[str, Tensor]:
    """Give the tensors of `WanTransformer3DModel` their original names.

    Args:
        tensors: by diffusers name.
        original_names: the names that the original network has; the rule above is a bijection on them.

    Returns:
        By original name; tensors that correspond to none keep theirs, so that a key check reports them.
    """
    back = {dit_to_diffusers(name): name for name in original_names}
    return {back.get(name, name): value for name, value in tensors.items()}


_VAE_RULES: tuple[tuple[str, str], ...] = (
    (r"^conv1\.", "quant_conv."),
    (r"^conv2\.", "post_quant_conv."),
    (r"^(encoder|decoder)\.conv1\.", r"\1.conv_in."),
    (r"^(encoder|decoder)\.head\.0\.", r"\1.norm_out."),
    (r"^(encoder|decoder)\.head\.2\.", r"\1.conv_out."),
    (r"^(encoder|decoder)\.middle\.0\.", r"\1.mid_block.resnets.0."),
    (r"^(encoder|decoder)\.middle\.1\.", r"\1.mid_block.attentions.0."),
    (r"^(encoder|decoder)\.middle\.2\.", r"\1.mid_block.resnets.1."),
    (
        r"^encoder\.downsamples\.(\d+)\.downsamples\.\d+\.(resample|time_conv)\.",
        r"encoder.down_blocks.\1.downsampler.\2.",
    ),
    (
        r"^decoder\.upsamples\.(\d+)\.upsamples\.\d+\.(resample|time_conv)\.",
        r"decoder.up_blocks.\1.upsampler.\2.",
    ),
    (r"^encoder\.downsamples\.(\d+)\.downsamples\.(\d+)\.", r"encoder.down_blocks.\1.resnets.\2."),
    (r"^decoder\.upsamples\.(\d+)\.upsamples\.(\d+)\.", r"decoder.up_blocks.\1.resnets.\2."),
)
_RESIDUAL_RULES: tuple[tuple[str, str], ...] = (
    (".residual.0.", ".norm1."),
    (".residual.2.", ".conv1."),
    (".residual.3.", ".norm2."),
    (".residual.6.", ".conv2."),
    (".shortcut.", ".conv_shortcut."),
)


def vae_to_diffusers(name: str) -> str:
    """Return the diffusers name of a tensor of the original Wan 2.2 VAE.

    A leading "model." (DiffSynth's converted file) is dropped; diffusers names come back unchanged.
    """
    name = name.removeprefix("model.")
    for pattern, replacement in _VAE_RULES:
        name, count = re.subn(pattern, replacement, name)
        if count:
            break
    for theirs, ours in _RESIDUAL_RULES:
        name = name.replace(theirs, ours)
    return name
