# SPDX-License-Identifier: Apache-2.0
"""What learns in a DUST run, as one module whose forward pass is a whole training step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from wam.models.layers.dit_block import DitBlock
from wam.policies.dust.head import DustHead
from wam.policies.dust.model import TargetScale
from wam.policies.dust.training.flare import Alignment
from wam.policies.dust.training.losses import DustBatch, DustDraws, DustObjective, draw, losses
from wam.policies.dust.training.samples import DustFeatures
from wam.training.objective import Objective


class DustStep(NamedTuple):
    """Scalars of one step.

    Attributes:
        total: what is minimised.
        action: L_A.
        world: L_WM, or the alignment of the baseline.
    """

    total: Tensor
    action: Tensor
    world: Tensor


class StepDraws(NamedTuple):
    """The random numbers of one step.

    Attributes:
        flow: noise and noise levels.
        seed: of dropout.
    """

    flow: DustDraws
    seed: int


class DustTrainable(Objective[DustFeatures]):
    """Projection of the features, head and, for the baseline, the alignment.

    Args:
        linear: projection of the language model's state.
        head: the network.
        objective: what is minimised.
        slot: embodiment.
        scale: of the target, or None.
        alignment: of the baseline, or None.
        weight: of the alignment.
    """

    blocks = (DitBlock,)

    def __init__(
        self,
        linear: nn.Linear,
        head: DustHead,
        *,
        objective: DustObjective,
        slot: int,
        scale: TargetScale | None = None,
        alignment: Alignment | None = None,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.linear = linear
        self.head = head
        self.target = scale
        self.alignment = alignment
        self.objective = objective
        self._slot = slot
        self._weight = weight

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Total, action and world."""
        return DustStep._fields

    def decays(self, name: str) -> bool:
        """Return whether weight decay acts on a parameter (`decays`)."""
        return decays(name)

    def batch_of(self, features: DustFeatures) -> DustBatch:
        """Return what the losses see; a head without a vision stream has no target."""
        target: Tensor | None = features.target_BPO
        if target is not None and self.target is not None:
            target = self.target(target)
        if not self.head.has_vision and self.alignment is None:
            target = None
        return DustBatch(
            state=features.state_B1J,
            action=features.action_BNA,
            action_mask=features.action_mask_BNA,
            target=target,
            slot=self._slot,
            target_valid=features.target_valid_B,
        )

    def draw(self, features: DustFeatures, generator: torch.Generator) -> StepDraws:
        """Draw the random numbers of one step."""
        flow = draw(self.batch_of(features), self.objective, generator)
        seed = torch.randint(1 << 62, (), generator=generator, device=generator.device)
        return StepDraws(flow, int(seed))

    def forward(self, features: DustFeatures, draws: StepDraws) -> DustStep:
        """Run one training step's forward pass."""
        device = self.head.device
        # Dropout draws from the global generator, which no checkpoint holds.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(draws.seed)
            return self._losses(features, draws.flow)

    def _losses(self, features: DustFeatures, draws: DustDraws) -> DustStep:
        batch = self.batch_of(features)
        projected = self.linear(features.features_BSL.to(self.linear.weight.dtype))
        if self.alignment is not None:
            return DustStep(
                *self.alignment(self.head, projected, features.mask_BS, batch, draws, weight=self._weight)
            )
        return DustStep(*losses(self.head, projected, features.mask_BS, batch, draws, self.objective))


def decays(name: str) -> bool:
    """Return whether weight decay acts on a parameter.

    GR00T-N1's trainer exempts names with "bias" and LayerNorm modules. No LayerNorm of the head has weights; the
    per-robot `b` and the position table do decay.
    """
    return "bias" not in name
