# SPDX-License-Identifier: Apache-2.0
"""DUST's objective: decoupled noise, one flow-matching loss per modality (paper Eq. 3 and 4, Algorithm 1).

Every random number is an argument (`DustDraws`), so a step can be repeated and compared. Noise levels (readings 12
and 16): tau = 0 is noise, tau = 1 is data. GR00T-N1's code and the text of the paper agree on a Beta law that prefers
noise (mean 0.40); Algorithm 1 says uniform.

Shapes: B batch, S feature rows, D width, T state tokens, J state values, N action rows, A action values,
P vision tokens, O vision channels.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wam.policies.dust.encoders import Embodiment, time_bucket
from wam.policies.dust.head import DustHead, Probe

BETA_ALPHA = 1.5
NOISE_S = 0.999


class TimeLaw(enum.Enum):
    """Distribution of a noise level."""

    N1 = "n1"
    """tau = (s - b) / s with b ~ Beta(1.5, 1), as GR00T-N1's code; clamped at 0."""
    PI0 = "pi0"
    """tau = s (1 - b), as pi-0 and the text of the paper; differs from N1 by at most 0.001."""
    UNIFORM = "uniform"
    """tau ~ U(0, 1), as Algorithm 1."""


def tau_from_beta(b: Tensor, law: TimeLaw) -> Tensor:
    """Map draws of Beta(1.5, 1) to noise levels; N1's form may be negative by 0.001."""
    if law is TimeLaw.PI0:
        return NOISE_S * (1 - b)
    return (NOISE_S - b) / NOISE_S


def draw_tau(count: int, law: TimeLaw, generator: torch.Generator) -> Tensor:
    """Draw one noise level per sample, float32 [count] in [0, 1], on the generator's device."""
    u = torch.rand(count, generator=generator, device=generator.device)
    if law is TimeLaw.UNIFORM:
        return u
    # The distribution function of Beta(a, 1) is b^a.
    return tau_from_beta(u ** (1 / BETA_ALPHA), law).clamp_min(0)


class ActionFreeTime(enum.Enum):
    """Noise level that the network is given for the missing actions of a video (reading 12)."""

    ZERO = "zero"
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class DustObjective:
    """What is minimised.

    Attributes:
        world_weight: lambda of Eq. 4.
        action_law: of the actions' noise level.
        vision_law: of the future embedding's noise level.
        joint_noise: both modalities get the action's noise level (ablation of Table 6).
        action_free: there are no actions: L = lambda L_WM, the action rows are pure noise.
        action_free_time: noise level given for them.
    """

    world_weight: float = 1.0
    action_law: TimeLaw = TimeLaw.N1
    vision_law: TimeLaw = TimeLaw.N1
    joint_noise: bool = False
    action_free: bool = False
    action_free_time: ActionFreeTime = ActionFreeTime.ZERO

    def __post_init__(self) -> None:
        if self.world_weight < 0:
            raise ValueError(f"world_weight={self.world_weight} must not be negative")
        if self.action_free and not self.world_weight:
            raise ValueError("world_weight=0 leaves nothing to learn from videos without actions")


@dataclass(frozen=True, slots=True)
class DustBatch:
    """What one training step sees, but for the features.

    Attributes:
        state: normalised, padded [B, T, J]; zeros for videos without a robot.
        action: normalised, padded [B, N, A]; any numbers where the objective is action-free.
        action_mask: 1 for real action columns, 0 for padding [B, N, A].
        target: SigLIP embedding of the image N rows ahead [B, P, O]; None without a vision stream.
        slot: embodiment.
        target_valid: bool [B]; False where the episode ends before; None where every row is valid.
    """

    state: Tensor
    action: Tensor
    action_mask: Tensor
    target: Tensor | None
    slot: Embodiment
    target_valid: Tensor | None = None

    @property
    def size(self) -> int:
        """Number of samples."""
        return self.state.shape[0]


class DustDraws(NamedTuple):
    """The random numbers of one step.

    Attributes:
        tau_a: noise level of the actions [B].
        eps_a: standard normal, shape of the actions.
        tau_o: noise level of the future embedding [B], or None.
        eps_o: standard normal, shape of the target, or None.
    """

    tau_a: Tensor
    eps_a: Tensor
    tau_o: Tensor | None
    eps_o: Tensor | None


class DustLosses(NamedTuple):
    """Scalars of one step.

    Attributes:
        joint: what is minimised (Eq. 4).
        action: L_A; zero where the objective is action-free.
        world: L_WM; zero without a vision stream.
    """

    joint: Tensor
    action: Tensor
    world: Tensor


def draw(batch: DustBatch, objective: DustObjective, generator: torch.Generator) -> DustDraws:
    """Draw the random numbers of one step on the generator's device: levels first, then noise."""
    own, device = generator.device, batch.action.device
    tau_a = draw_tau(batch.size, objective.action_law, generator)
    if objective.action_free and objective.action_free_time is ActionFreeTime.ZERO:
        tau_a = torch.zeros_like(tau_a)
    tau_o = tau_a if objective.joint_noise else draw_tau(batch.size, objective.vision_law, generator)
    eps_a = torch.randn(batch.action.shape, generator=generator, device=own).to(device)
    if batch.target is None:
        return DustDraws(tau_a.to(device), eps_a, None, None)
    eps_o = torch.randn(batch.target.shape, generator=generator, device=own).to(device)
    return DustDraws(tau_a.to(device), eps_a, tau_o.to(device), eps_o)


def noised(data: Tensor, eps: Tensor, tau_B: Tensor) -> Tensor:
    """Return tau * data + (1 - tau) * eps."""
    tau = tau_B.view(-1, *(1,) * (data.dim() - 1))
    return tau * data + (1 - tau) * eps


def losses(
    head: DustHead,
    features_BSD: Tensor,
    mask_BS: Tensor | None,
    batch: DustBatch,
    draws: DustDraws,
    objective: DustObjective | None = None,
    *,
    probe: Probe | None = None,
) -> DustLosses:
    """Run the head once and compare both velocities with data - noise.

    Args:
        head: the network.
        features_BSD: from the backbone, after its projection.
        mask_BS: their real rows.
        batch: data.
        draws: random numbers.
        objective: what is minimised; None takes the paper's.
        probe: sees intermediate tensors.
    """
    objective = objective or DustObjective()
    noisy_action = draws.eps_a if objective.action_free else noised(batch.action, draws.eps_a, draws.tau_a)
    noisy_future = bucket_o = future_velocity = None
    if head.has_vision:
        if batch.target is None or draws.eps_o is None or draws.tau_o is None:
            raise ValueError("a head with a vision stream needs a target and its draws")
        noisy_future, bucket_o = noised(batch.target, draws.eps_o, draws.tau_o), time_bucket(draws.tau_o)
        future_velocity = batch.target - draws.eps_o
    v = head(
        head.project_features(features_BSD, mask_BS),
        state_BTJ=batch.state,
        action_BNA=noisy_action,
        future_BPO=noisy_future,
        bucket_a=time_bucket(draws.tau_a),
        bucket_o=bucket_o,
        slot=batch.slot,
        probe=probe,
    )
    zero = batch.action.new_zeros(())
    action = zero
    if not objective.action_free:
        error = (v.action.float() - (batch.action - draws.eps_a)) ** 2 * batch.action_mask
        action = error.sum() / batch.action_mask.sum()
    world = zero
    if future_velocity is not None:
        per_sample = ((v.vision.float() - future_velocity) ** 2).flatten(1).mean(1)
        if batch.target_valid is None:
            world = per_sample.mean()
        else:
            valid = batch.target_valid.to(per_sample.dtype)
            world = (per_sample * valid).sum() / valid.sum().clamp_min(1)
    joint = (
        objective.world_weight * world if objective.action_free else action + objective.world_weight * world
    )
    return DustLosses(joint, action, world)
