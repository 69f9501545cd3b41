# SPDX-License-Identifier: Apache-2.0
"""What learns in a DUST run, as one module whose forward pass is a whole training step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from wam.models.layers.dit_block import DitBlock
from wam.policies.dust.head import DustHead
from wam.policies.dust.model import TargetScale
from wam.policies.dust.patches import PatchBackbone
from wam.policies.dust.sampling import noise, sample
from wam.policies.dust.schedule import SamplerSettings, schedule
from wam.policies.dust.training.flare import Alignment
from wam.policies.dust.training.losses import DustBatch, DustDraws, DustObjective, draw, losses
from wam.policies.dust.training.samples import DustFeatures, DustSeen
from wam.policies.dust.units import RowUnits
from wam.training.action_error import PredictedRows
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


class DustTrainable(Objective[DustSeen]):
    """Projection of the features (or the whole vision), head and, for the baseline, the alignment.

    Args:
        vision: projection of the language model's state, or the backbone that learns.
        head: the network.
        objective: what is minimised.
        slot: embodiment.
        scale: of the target, or None.
        alignment: of the baseline, or None.
        weight: of the alignment.
        units: of state and action rows, for their errors in SI units; None for videos alone.
    """

    blocks = (DitBlock,)

    def __init__(
        self,
        vision: nn.Linear | PatchBackbone,
        head: DustHead,
        *,
        objective: DustObjective,
        slot: int,
        scale: TargetScale | None = None,
        alignment: Alignment | None = None,
        weight: float = 1.0,
        units: RowUnits | None = None,
    ) -> None:
        super().__init__()
        self.linear = vision if isinstance(vision, nn.Linear) else None
        self.backbone = vision if isinstance(vision, PatchBackbone) else None
        self.head = head
        self.target = scale
        self.alignment = alignment
        self.objective = objective
        self._slot = slot
        self._weight = weight
        self._units = units

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Total, action and world."""
        return DustStep._fields

    def decays(self, name: str) -> bool:
        """Return whether weight decay acts on a parameter (`decays`)."""
        return decays(name)

    def target_of(self, seen: DustSeen) -> Tensor:
        """Return the world-model target before its scale [B, P, O]."""
        if isinstance(seen, DustFeatures):
            return seen.target_BPO
        assert self.backbone is not None
        return self.backbone.target(seen.future_B3HW)

    def batch_of(self, features: DustSeen) -> DustBatch:
        """Return what the losses see; a head without a vision stream has no target."""
        target: Tensor | None = self.target_of(features)
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

    def draw(self, features: DustSeen, generator: torch.Generator) -> StepDraws:
        """Draw the random numbers of one step."""
        flow = draw(self.batch_of(features), self.objective, generator)
        seed = torch.randint(1 << 62, (), generator=generator, device=generator.device)
        return StepDraws(flow, int(seed))

    def forward(self, features: DustSeen, draws: StepDraws) -> DustStep:
        """Run one training step's forward pass."""
        device = self.head.device
        # Dropout draws from the global generator, which no checkpoint holds.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(draws.seed)
            return self._losses(features, draws.flow)

    def _losses(self, features: DustSeen, draws: DustDraws) -> DustStep:
        batch = self.batch_of(features)
        projected = self._projected(features)
        if self.alignment is not None:
            return DustStep(
                *self.alignment(self.head, projected, features.mask_BS, batch, draws, weight=self._weight)
            )
        return DustStep(*losses(self.head, projected, features.mask_BS, batch, draws, self.objective))

    def _projected(self, seen: DustSeen) -> Tensor:
        """Return the features [B, S, D]."""
        out: Tensor
        if isinstance(seen, DustFeatures):
            assert self.linear is not None
            out = self.linear(seen.features_BSL.to(self.linear.weight.dtype))
        else:
            assert self.backbone is not None
            out = self.backbone(seen.pixels_BV3HW.flatten(0, 1), seen.ids_BS, seen.mask_BS)
        return out

    def predict(self, batch: DustSeen, generator: torch.Generator) -> PredictedRows | None:
        """Return rows that are sampled as deployed, without test-time scaling."""
        if self._units is None or self.objective.action_free:
            return None
        device = self.head.device
        action, future = noise(self.head.config, batch=batch.size, generator=generator, device=device)
        was_training = self.head.training
        self.eval()
        sampled = sample(
            self.head,
            features=self.head.project_features(self._projected(batch), batch.mask_BS),
            state_BTJ=batch.state_B1J,
            slot=self._slot,
            action_BNA=action,
            future_BPO=future,
            plan=schedule(SamplerSettings(q=1)),
        ).action
        self.train(was_training)
        to_si = self._units.action.to_si
        return PredictedRows(
            self._units.joints,
            predicted=to_si(sampled.float().cpu().numpy()),
            recorded=to_si(batch.action_BNA.cpu().numpy()),
            still=self._units.still(batch.state_B1J, rows=action.shape[1]),
            valid=batch.recorded_BN.cpu().numpy(),
        )


def decays(name: str) -> bool:
    """Return whether weight decay acts on a parameter.

    GR00T-N1's trainer exempts names with "bias" and LayerNorm modules. No LayerNorm of the head has weights; the
    per-robot `b` and the position table do decay.
    """
    return "bias" not in name
