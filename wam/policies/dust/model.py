# SPDX-License-Identifier: Apache-2.0
"""All weights of a DUST policy, and the parts that each half needs.

Parts (names are the prefixes of `model.safetensors`):

    backbone.vision, .language, .mlp1   Eagle-2, frozen; or all of backbone: `PatchBackbone`, which learns
    backbone.linear                     features of the head's width
    head                                the diffusion head
    target.mean, .std                   per-channel scale of the world-model target, where it is normalised

The planner's half is the backbone and, from the head, only the linear layers that turn features into keys and
values (`FeatureProjection`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wam.policies.dust.config import DustConfig
from wam.policies.dust.eagle import EagleBackbone
from wam.policies.dust.head import DustHead
from wam.policies.dust.patches import PatchBackbone
from wam.policies.dust.records import FeatureKv

Backbone = EagleBackbone | PatchBackbone
"""What turns images and a prompt into features."""


def make_backbone(config: DustConfig) -> Backbone:
    """Return the backbone of a network, with random weights."""
    if config.patches is None:
        return EagleBackbone(config.eagle, feature_width=config.width)
    return PatchBackbone(config)


class TargetScale(nn.Module):
    """Brings the world-model target to zero mean and unit variance per channel, or leaves it (the default)."""

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def forward(self, target_BPO: Tensor) -> Tensor:
        """Return the scaled target."""
        return (target_BPO - self.mean) / self.std

    def undo(self, scaled_BPO: Tensor) -> Tensor:
        """Return a predicted target in the tower's own units."""
        return scaled_BPO * self.std + self.mean

    @torch.no_grad()
    def fit(self, targets_nPO: Tensor) -> None:
        """Take mean and deviation of every channel from examples."""
        flat = targets_nPO.flatten(0, -2).float()
        self.mean.copy_(flat.mean(0))
        self.std.copy_(flat.std(0).clamp_min(1e-6))


class FeatureProjection(nn.Module):
    """The planner's share of the head: features -> keys and values of every cross-attention layer.

    Args:
        config: sizes and readings.
    """

    def __init__(self, config: DustConfig) -> None:
        super().__init__()
        self.layers = config.cross_layers()
        D = config.width
        self.k = nn.ModuleList(nn.Linear(D, D) for _ in self.layers)
        self.v = nn.ModuleList(nn.Linear(D, D) for _ in self.layers)

    def name_in_head(self, name: str) -> str:
        """Translate a name of this module to the head's: k.3.weight -> mm.2.o.to_k.weight."""
        kind, index, leaf = name.split(".")
        layer = self.layers[int(index)]
        return f"{layer.path}.{layer.prefix}_{kind}.{leaf}"

    def forward(self, features_BSD: Tensor) -> FeatureKv:
        """Return stacked keys and values [C, B, S, D]."""
        return FeatureKv(*self.pair(features_BSD))

    def pair(self, features_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same without a mask."""
        k = torch.stack([layer(features_BSD) for layer in self.k])
        v = torch.stack([layer(features_BSD) for layer in self.v])
        return k, v


class DustModel(nn.Module):
    """Backbone and head.

    Args:
        config: sizes and readings.
        backbone: build the backbone.
        head: build the head.
    """

    def __init__(self, config: DustConfig, *, backbone: bool = True, head: bool = True) -> None:
        super().__init__()
        self.config = config
        self.backbone = make_backbone(config) if backbone else None
        self.head = DustHead(config) if head else None
        self.target = TargetScale(config.vision_dim) if config.normalise_target else None

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters per part and, under "total", of all."""
        counts: dict[str, int] = {}
        for name, parameter in self.named_parameters():
            part = ".".join(name.split(".")[:2])
            counts[part] = counts.get(part, 0) + parameter.numel()
        counts["total"] = sum(counts.values())
        return counts


def parameter_counts(config: DustConfig) -> dict[str, int]:
    """Count parameters per part without allocating them (meta device)."""
    with torch.device("meta"):
        return DustModel(config).parameter_counts()
