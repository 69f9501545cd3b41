# SPDX-License-Identifier: Apache-2.0
"""Vision-action joint sampling: the integrator, and the head as its velocity field.

Convention: tau = 0 is noise, tau = 1 is data, v = data - noise (paper Eq. 2). States are float32 whatever the
network computes in: with 64 steps of a bfloat16 state an increment is rounded away.

Shapes: B batch, N action rows, A action values, P vision tokens, O vision channels, S feature rows, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from wam.models.layers.guidance import pulled
from wam.policies.dust.config import DustConfig
from wam.policies.dust.encoders import Embodiment
from wam.policies.dust.head import DustHead
from wam.policies.dust.readings import HeadStream
from wam.policies.dust.records import FeatureKv, Prefix, StreamModulation, StreamVelocities
from wam.policies.dust.schedule import ChunkSchedule, HeadEvaluation, SamplerSettings, Savings

VelocityField = Callable[[Tensor, "Tensor | None", HeadEvaluation], StreamVelocities]
"""(actions, future embedding, evaluation) -> what the evaluation wants."""

Trace = Callable[[HeadEvaluation, Tensor, "Tensor | None"], None]
"""Sees both states after every evaluation."""


class SampledChunk(NamedTuple):
    """What one run of the sampler gives.

    Attributes:
        action: float32 [B, N, A], normalised.
        future: float32 [B, P, O]; at `future_tau`. None without a vision stream.
        future_tau: noise level that the future embedding reached; 1 is the prediction itself.
    """

    action: Tensor
    future: Tensor | None
    future_tau: float


def integrate_joint(
    velocity: VelocityField,
    action_BNA: Tensor,
    future_BPO: Tensor | None,
    *,
    plan: ChunkSchedule,
    trace: Trace | None = None,
) -> SampledChunk:
    """Integrate both modalities from noise to data with Euler steps of their own lengths.

    Args:
        velocity: called once per evaluation, with the states before they move.
        action_BNA: noise; never written to.
        future_BPO: noise, or None without a vision stream.
        plan: from `wam.policies.dust.schedule.schedule`.
        trace: sees the states after every evaluation.
    """
    action = action_BNA.float()
    future = None if future_BPO is None else future_BPO.float()
    for evaluation in plan.evaluations:
        v = velocity(action, future, evaluation)
        if future is not None and v.vision is not None:
            future = torch.add(future, v.vision.float(), alpha=1.0 / plan.settings.vision_steps)
        if evaluation.moves:
            assert v.action is not None
            action = torch.add(action, v.action.float(), alpha=1.0 / plan.settings.action_steps)
        if trace is not None:
            trace(evaluation, action, future)
    return SampledChunk(action, future, plan.future_tau)


@dataclass(frozen=True, slots=True)
class Tables:
    """Modulations of every noise level of a schedule; they depend on weights and embodiment alone.

    Attributes:
        action: by bucket.
        vision: by bucket.
    """

    action: Mapping[int, StreamModulation]
    vision: Mapping[int, StreamModulation]


def _bucket_tensor(bucket: int, device: torch.device) -> Tensor:
    return torch.full((1,), bucket, dtype=torch.int64, device=device)


@torch.no_grad()
def build_tables(head: DustHead, plan: ChunkSchedule, *, slot: Embodiment) -> Tables:
    """Compute the modulations of a schedule, one level at a time as a sampler without tables would."""
    action = {e.bucket_a for e in plan.evaluations}
    vision = {e.bucket_o for e in plan.evaluations} if head.has_vision else set()
    return Tables(
        {b: head.action_modulation(_bucket_tensor(b, head.device), slot) for b in sorted(action)},
        {b: head.vision_modulation(_bucket_tensor(b, head.device)) for b in sorted(vision)},
    )


class ChunkVelocity:
    """The head as a velocity field over one chunk, with the savings of a schedule.

    Args:
        head: the network.
        features: keys and values from the planner; or a function that computes them, which is then called at
            every evaluation (no saving).
        state_BTJ: normalised state.
        slot: embodiment.
        savings: what is not repeated.
        tables: of the schedule; None computes modulations at every evaluation.
    """

    def __init__(
        self,
        head: DustHead,
        *,
        features: FeatureKv | Callable[[], FeatureKv],
        state_BTJ: Tensor,
        slot: Embodiment,
        savings: Savings,
        tables: Tables | None = None,
    ) -> None:
        self._head = head
        self._features = features
        self._state = state_BTJ
        self._slot = slot
        self._savings = savings
        self._tables = tables if savings.tables else None
        self._state_tokens = head.encode_state(state_BTJ, slot) if savings.tables else None
        self._action_prefix: Prefix | None = None

    def __call__(self, action: Tensor, future: Tensor | None, evaluation: HeadEvaluation) -> StreamVelocities:
        """Return the velocities that the evaluation needs."""
        head = self._head
        kv = self._features if isinstance(self._features, FeatureKv) else self._features()
        mods = [self._action_modulation(evaluation.bucket_a)]
        reusable = self._savings.reuse_frozen_action and evaluation.same_action
        if self._action_prefix is None or not reusable:
            state = self._state_tokens
            if state is None:
                state = head.encode_state(self._state, self._slot)
            tokens = head.action_tokens(state, action, mods[0], self._slot)
            self._action_prefix = head.prefix(HeadStream.ACTION, tokens, mods[0], kv)
        prefixes = [self._action_prefix]
        if future is not None:
            mods.append(self._vision_modulation(evaluation.bucket_o))
            prefixes.append(head.prefix(HeadStream.VISION, head.vision_tokens(future), mods[1], kv))
        return head.finish(
            prefixes,
            mods,
            kv,
            self._slot,
            want_action=evaluation.want_action,
            want_vision=evaluation.want_vision,
        )

    def _action_modulation(self, bucket: int) -> StreamModulation:
        if self._tables is not None:
            return self._tables.action[bucket]
        return self._head.action_modulation(_bucket_tensor(bucket, self._head.device), self._slot)

    def _vision_modulation(self, bucket: int) -> StreamModulation:
        if self._tables is not None:
            return self._tables.vision[bucket]
        return self._head.vision_modulation(_bucket_tensor(bucket, self._head.device))


@dataclass(frozen=True, slots=True)
class Guidance:
    """What a chunk is guided towards while it is sampled: real-time chunking, see `wam.models.layers.guidance`.

    Attributes:
        target: [N, A], rows of the last chunk at the times of this one, normalised.
        weights: [N, A], how much each value has to agree with it, 0 to 1.
        limit: largest weight of the guidance.
    """

    target: Tensor
    weights: Tensor
    limit: float


def guided_velocity(
    velocity: VelocityField, guidance: Guidance, *, settings: SamplerSettings
) -> VelocityField:
    """Return a field whose actions end near the target where the weights ask for it.

    Every evaluation after which the actions move needs the gradient of the network.

    Args:
        velocity: of the policy; its tensors must not be inference tensors, and it must not reuse the action stream of
            an earlier evaluation, which has no gradient.
        guidance: towards what.
        settings: of the sampler.
    """

    def field(action: Tensor, future: Tensor | None, evaluation: HeadEvaluation) -> StreamVelocities:
        if not evaluation.moves:
            return velocity(action, future, evaluation)
        tau = (evaluation.index // settings.q) / settings.action_steps

        def clean(x: Tensor) -> tuple[StreamVelocities, Tensor]:
            v = velocity(x, future, evaluation)
            assert v.action is not None
            return v, x + (1.0 - tau) * v.action.float()

        v, pull = pulled(
            clean,
            action,
            target=guidance.target,
            weights=guidance.weights,
            sigma=1.0 - tau,
            limit=guidance.limit,
        )
        assert v.action is not None
        return StreamVelocities(v.action.detach() + pull, None if v.vision is None else v.vision.detach())

    return field


def noise(
    config: DustConfig, *, batch: int, generator: torch.Generator, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor | None]:
    """Draw the start of both modalities in float32 on the generator's device, actions first."""
    own = generator.device
    action = torch.randn(batch, config.action_rows, config.action_dim, generator=generator, device=own)
    future = None
    if HeadStream.VISION in config.streams:
        future = torch.randn(batch, config.vision_tokens, config.vision_dim, generator=generator, device=own)
        future = future.to(device)
    return action.to(device), future


def sample(
    head: DustHead,
    *,
    features: FeatureKv | Callable[[], FeatureKv],
    state_BTJ: Tensor,
    slot: Embodiment,
    action_BNA: Tensor,
    future_BPO: Tensor | None,
    plan: ChunkSchedule,
    tables: Tables | None = None,
    guidance: Guidance | None = None,
    trace: Trace | None = None,
) -> SampledChunk:
    """Sample one chunk with the head as it is written.

    Args:
        head: the network.
        features: keys and values from the planner, or a function that recomputes them.
        state_BTJ: normalised state.
        slot: embodiment.
        action_BNA: start noise of the actions.
        future_BPO: start noise of the future embedding.
        plan: evaluations, with what they leave out.
        tables: of the plan; None builds them where the plan wants them.
        guidance: towards the rows of the last chunk; outside inference mode.
        trace: sees the states after every evaluation.
    """
    if plan.savings.tables and tables is None:
        tables = build_tables(head, plan, slot=slot)
    savings = plan.savings if guidance is None else replace(plan.savings, reuse_frozen_action=False)
    velocity: VelocityField = ChunkVelocity(
        head, features=features, state_BTJ=state_BTJ, slot=slot, savings=savings, tables=tables
    )
    if guidance is not None:
        velocity = guided_velocity(velocity, guidance, settings=plan.settings)
    return integrate_joint(velocity, action_BNA, future_BPO, plan=plan, trace=trace)
