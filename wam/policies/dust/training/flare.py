# SPDX-License-Identifier: Apache-2.0
"""The alignment baseline: GR00T-N1's head whose inner layer is pulled towards the future embedding (FLARE).

Learned tokens stand behind the action tokens, one for every token of the world-model target. After an inner
block a small MLP maps them to the target's width, and the loss is one minus their cosine similarity. The
target is the one of DUST, so the two ways of modelling the world differ in nothing else (paper A.2).

Shapes: B batch, S feature rows, D width, P target tokens, O target channels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from wam.policies.dust.config import DustConfig
from wam.policies.dust.head import DustHead
from wam.policies.dust.readings import ActionPositions, BlockStyle, HeadLayout
from wam.policies.dust.training.losses import DustBatch, DustDraws, losses

HIDDEN_FACTOR = 2


def baseline(config: DustConfig, *, aligned: bool) -> DustConfig:
    """Return the head of the baselines: GR00T-N1's, as deep as `config`.

    Args:
        config: of DUST.
        aligned: with learned tokens for the alignment.
    """
    return replace(
        config,
        mm_layers=0,
        tail_layers=config.mm_layers + config.tail_layers,
        style=BlockStyle.N1,
        layout=HeadLayout.ACTION_ONLY,
        action_positions=ActionPositions.LEARNED,
        future_tokens=config.vision_tokens if aligned else 0,
    )


class AlignmentLosses(NamedTuple):
    """Scalars of one step.

    Attributes:
        joint: what is minimised.
        action: L_A.
        alignment: one minus the mean cosine similarity, 0 to 2.
    """

    joint: Tensor
    action: Tensor
    alignment: Tensor


class Alignment(nn.Module):
    """Reads an inner layer and compares it with the target.

    Args:
        config: of the head, with `future_tokens`.
        layer: block after which the tokens are read, from 1.
    """

    def __init__(self, config: DustConfig, *, layer: int) -> None:
        super().__init__()
        if not 1 <= layer <= config.tail_layers:
            raise ValueError(f"alignment_layer={layer} must be in 1..{config.tail_layers}")
        if config.future_tokens != config.vision_tokens:
            raise ValueError(f"future_tokens={config.future_tokens} for {config.vision_tokens} target tokens")
        self.place = f"tail{layer - 1}.a"
        self.tokens = config.future_tokens
        hidden = HIDDEN_FACTOR * config.width
        self.project = nn.Sequential(
            nn.Linear(config.width, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, config.vision_dim),
        )

    def forward(
        self,
        head: DustHead,
        features_BSD: Tensor,
        mask_BS: Tensor | None,
        batch: DustBatch,
        draws: DustDraws,
        *,
        weight: float,
    ) -> AlignmentLosses:
        """Run the head once; arguments as for `losses`, `weight` is the alignment's."""
        if batch.target is None:
            raise ValueError("the alignment needs a target")
        seen: dict[str, Tensor] = {}

        def keep(name: str, tensor: Tensor) -> None:
            if name == self.place:
                seen[name] = tensor

        action = losses(head, features_BSD, mask_BS, batch, draws, probe=keep).action
        inner = self.project(seen[self.place][:, -self.tokens :])
        similarity = F.cosine_similarity(inner.float(), batch.target.float(), dim=-1).mean(1)
        distance = 1 - similarity
        if batch.target_valid is None:
            alignment = distance.mean()
        else:
            valid = batch.target_valid.to(distance.dtype)
            alignment = (distance * valid).sum() / valid.sum().clamp_min(1)
        return AlignmentLosses(action + weight * alignment, action, alignment)
