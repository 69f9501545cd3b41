# SPDX-License-Identifier: Apache-2.0
"""Random weights for tests and demos, with one property of a trained policy: its actions are calm."""

from __future__ import annotations

import torch
from torch import Tensor

from wam.policies.ud_vla.config import UdVlaConfig
from wam.policies.ud_vla.decoder import UdVlaDecoder
from wam.policies.ud_vla.vision import ImageTokenizer

CONSTANT = 4.0
"""First number of every embedding: with it the output matrix has something like a bias."""
CALM = 0.35
"""By how much each step away from coefficient zero lowers a token's logit, per unit of the constant."""
NEVER = -10.0


def random_decoder(
    config: UdVlaConfig,
    *,
    seed: int,
    calm: bool = False,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> UdVlaDecoder:
    """Return a decoder with random weights.

    Args:
        config: sizes.
        seed: of the weights.
        calm: prefer action tokens near the middle of the vocabulary, and never end an action early. Meant for
            `wam.policies.ud_vla.fast.plain`, where token and coefficient are the same thing.
        device: where the weights are made; another kind of device gives other numbers.
        dtype: of the weights.
    """
    with torch.device("meta"):
        decoder = UdVlaDecoder(config)
    decoder = decoder.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    decoder.restore_buffers(device)
    generator = torch.Generator(device).manual_seed(seed)
    for name, weight in decoder.state_dict().items():
        if weight.dim() == 2:
            scale = 0.3 if "o_proj" in name or "down_proj" in name else 1.0
            weight.normal_(0.0, scale * weight.shape[1] ** -0.5, generator=generator)
        else:
            weight.fill_(1.0)
    embed, head = decoder.lm.model.embed_tokens.weight, decoder.lm.lm_head.weight
    if calm:
        tokens = config.tokens
        embed[:, 0] = CONSTANT
        head[:, 0] = 0.0
        span = tokens.action_range
        away = (torch.arange(len(span)) - (len(span) - 1) / 2).abs()
        head[span.start : span.stop, 0] = -CALM * away
        head[tokens.eoa, 0] = NEVER
        head[[tokens.img, tokens.eof], 0] = NEVER
        head[:256, 0] = NEVER
    return decoder


def random_vision(config: UdVlaConfig, *, seed: int) -> ImageTokenizer:
    """Return an image tokenizer with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vision = ImageTokenizer(config.vision, codes=config.tokens.visual_count)
    return vision.eval().requires_grad_(False)


def bundle_tensors(decoder: UdVlaDecoder, vision: ImageTokenizer) -> dict[str, Tensor]:
    """Return the tensors of a bundle by their names in the file."""
    out = {decoder_name(name): tensor for name, tensor in decoder.state_dict().items()}
    out.update({vision_name(name): tensor for name, tensor in vision.state_dict().items()})
    return out


def decoder_name(name: str) -> str:
    """Return the name in a bundle of a tensor of the decoder."""
    return "decoder." + name.removeprefix("lm.")


def vision_name(name: str) -> str:
    """Return the name in a bundle of a tensor of the image tokenizer."""
    return "vision." + name.removeprefix("vq.")
