# SPDX-License-Identifier: Apache-2.0
"""All tensors of a UD-VLA policy by their names in a bundle, and their numbers."""

from __future__ import annotations

import torch

from wam.policies.ud_vla.config import UdVlaConfig
from wam.policies.ud_vla.decoder import UdVlaDecoder
from wam.policies.ud_vla.initialise import bundle_tensors
from wam.policies.ud_vla.vision import ImageTokenizer


def expected_shapes(config: UdVlaConfig) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of every tensor of a bundle; nothing is allocated."""
    with torch.device("meta"):
        decoder = UdVlaDecoder(config)
        vision = ImageTokenizer(config.vision, codes=config.tokens.visual_count)
    return {name: tuple(t.shape) for name, t in bundle_tensors(decoder, vision).items()}


def parameter_counts(config: UdVlaConfig) -> dict[str, int]:
    """Count parameters per part and, under "total", all; the paper's figure counts the decoder's."""
    with torch.device("meta"):
        parts = {
            "decoder": UdVlaDecoder(config),
            "vision": ImageTokenizer(config.vision, codes=config.tokens.visual_count),
        }
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    return {**counts, "total": sum(counts.values())}
