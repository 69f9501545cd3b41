# SPDX-License-Identifier: Apache-2.0
"""DUST's executor: projected features and joint state in, chunk out."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wam.core.chunk import ActionChunk
from wam.core.context import PlannerContext
from wam.core.contract import PolicyContract
from wam.core.errors import ConfigError, PolicyFault
from wam.core.observation import CameraFrame, Observation, RobotState
from wam.core.policy import Committed, Features, RoutedContext, routable_offset
from wam.models.backends.plan import BackendPlan, eager_plan
from wam.models.finite import all_finite, require_finite, require_finite_layers
from wam.models.layers.guidance import prefix_weights
from wam.policies.dust.context import EMBEDDING, DustContext, DustRouted
from wam.policies.dust.head import DustHead
from wam.policies.dust.model import TargetScale
from wam.policies.dust.records import FeatureKv
from wam.policies.dust.sampling import (
    Guidance,
    SampledChunk,
    Tables,
    build_tables,
    integrate_joint,
    noise,
    sample,
)
from wam.policies.dust.schedule import ALL_SAVINGS, ChunkSchedule, SamplerSettings, Savings, schedule
from wam.policies.dust.stages import SLOT, HeadStages, PackedTables, StagedVelocity
from wam.policies.dust.units import ActionUnits, StateUnits
from wam.policies.results import action_chunk, chunk_seed, relative_rows


@dataclass(frozen=True, slots=True)
class FuturePrediction:
    """What the world model predicts for the end of a chunk.

    Attributes:
        stamp_ns: acquisition time of the observation that the chunk was made from [ns].
        target_stamp_ns: time of the expected image [ns].
        embedding: float32 [P, O], SigLIP features of the expected image, pooled; read-only.
        tau: noise level it was denoised to; 1 is the prediction itself.
    """

    stamp_ns: int
    target_stamp_ns: int
    embedding: npt.NDArray[np.float32]
    tau: float

    def features(self) -> Features:
        """Return the embedding as `DustPlanner.perceive` gives that of an image."""
        return {EMBEDDING: self.embedding}

    def frame(self, camera: str) -> CameraFrame | None:
        """Return None: an embedding is not an image."""
        return None


class DustExecutor:
    """The head with joint sampling. One worker thread calls it.

    Args:
        head: loaded, with the weights of one robot.
        contract: of the bundle.
        state_units: of the proprioception.
        action_units: of the action rows.
        settings: of the sampler.
        feature_rows: S of the policy's own instruction, for which the stages are prepared.
        target_scale: undoes the scale of the future embedding, where the policy has one.
        savings: what is not repeated.
        stages: what runs the stages. Guided chunks, and those without tables, are sampled eagerly.
    """

    def __init__(
        self,
        head: DustHead,
        *,
        contract: PolicyContract,
        state_units: StateUnits,
        action_units: ActionUnits,
        settings: SamplerSettings,
        feature_rows: int,
        target_scale: TargetScale | None = None,
        savings: Savings = ALL_SAVINGS,
        stages: BackendPlan | None = None,
    ) -> None:
        self._head = head
        self._contract = contract
        self._state_units = state_units
        self._action_units = action_units
        self._target_scale = target_scale
        self._savings = savings
        self._plan: ChunkSchedule
        self._tables: Tables | None
        self._packed: PackedTables | None
        self._stages = HeadStages(head, stages or eager_plan(), feature_rows=feature_rows)
        self.configure(settings)
        self._committed: Committed | None = None
        self._prediction: FuturePrediction | None = None

    @property
    def settings(self) -> SamplerSettings:
        """Settings of the sampler in force."""
        return self._plan.settings

    @property
    def plan(self) -> ChunkSchedule:
        """Evaluations that one chunk takes."""
        return self._plan

    @property
    def prediction(self) -> FuturePrediction | None:
        """Prediction of the world model for the last chunk; None before the first, and where it was not requested."""
        return self._prediction

    @property
    def imagination(self) -> FuturePrediction | None:
        """The last prediction, where it was denoised to the end; None below noise level 1."""
        seen = self._prediction
        return None if seen is None or seen.tau < 1.0 else seen

    def configure(self, settings: SamplerSettings) -> None:
        """Change the sampler between two chunks (test-time scaling); called from the worker thread.

        Raises:
            ConfigError: the policy has no world model to scale.
        """
        if not self._head.has_vision and settings.q > 1:
            raise ConfigError(
                "sampler.q",
                value=settings.q,
                allowed="1: this policy has no world model whose steps could be refined",
                where="the sampler section of policy.yaml",
            )
        self._plan = schedule(settings, savings=self._savings)
        self._tables = self._packed = None
        with torch.inference_mode():
            self._stages.meet({evaluation.kind for evaluation in self._plan.evaluations})

    @torch.inference_mode()
    def route(
        self, observation: Observation, *, context: PlannerContext[DustContext]
    ) -> RoutedContext[DustRouted]:
        """Check that the context can serve the observation, and bring it to the executor's device.

        Raises:
            ContractMismatch: the context comes from another policy.
            StaleObservation: the observation is older than the context's image.
            StaleContext: the observation lies beyond the horizon of the context.
        """
        started_ns = time.perf_counter_ns()
        header = context.header
        offset = routable_offset(self._contract, header, stamp_ns=observation.stamp_ns)
        device, dtype = self._head.device, self._head.dtype
        # Each routed context has tensors of its own: where memory is recycled, another context is another object.
        k = context.payload.k.to(device=device, dtype=dtype).detach()
        v = context.payload.v.to(device=device, dtype=dtype).detach()
        return RoutedContext(header, observation.stamp_ns, DustRouted(k, v, offset, started_ns))

    def continue_from(self, committed: Committed | None) -> None:
        """Take what the next chunk has to continue; see `wam.core.policy.Continuing`."""
        self._committed = committed

    def act(self, routed: RoutedContext[DustRouted], *, proprio: RobotState) -> ActionChunk:
        """Sample one chunk; what the world model predicts is in `prediction` afterwards.

        Raises:
            JointError: the state lacks a joint of the policy.
            PolicyFault: a value is not finite; the text names the place.
        """
        guidance = self._guidance(proprio)
        # Tensors that are made in inference mode cannot take part in a gradient.
        with torch.inference_mode() if guidance is None else torch.no_grad():
            start, result = self._sample(routed, proprio, guidance)
            if not all_finite(result.action):
                self._raise_fault(routed.payload, start, result.action)
            self._prediction = self._predicted(result, routed.stamp_ns)
            rows = self._action_units.to_si(result.action[0].cpu().numpy())
        return action_chunk(
            self._contract,
            routed,
            rows,
            proprio=proprio,
            offset_rows=routed.payload.offset_rows,
            started_ns=routed.payload.started_ns,
        )

    def _sample(
        self, routed: RoutedContext[DustRouted], proprio: RobotState, guidance: Guidance | None
    ) -> tuple[Tensor, SampledChunk]:
        """Return the start noise of the actions and what became of it."""
        payload = routed.payload
        positions = np.asarray(proprio.select(self._contract.state_joints).positions)
        state_11J = self._state_units.to_model(positions)[None, None].to(self._head.device)
        require_finite(state_11J, what="measured joint state")
        seed = chunk_seed(self.settings.seed, header=routed.header, index=payload.offset_rows)
        generator = torch.Generator().manual_seed(seed)  # on the CPU: the same noise on every device
        action, future = noise(self._head.config, batch=1, generator=generator, device=self._head.device)
        tables = self._tables_in_force()
        if guidance is None and tables is not None and self._savings.features_once:
            if self._packed is None:
                self._packed = self._stages.tables(tables)
            velocity = StagedVelocity(
                self._stages,
                kv=(payload.k, payload.v),
                state_BTJ=state_11J,
                tables=self._packed,
                plan=self._plan,
            )
            return action, integrate_joint(velocity, action, future, plan=self._plan)
        features = FeatureKv(payload.k, payload.v)
        if guidance is not None:
            features = FeatureKv(payload.k.clone(), payload.v.clone())
        result = sample(
            self._head,
            features=features,
            state_BTJ=state_11J,
            slot=SLOT,
            action_BNA=action,
            future_BPO=future,
            plan=self._plan,
            tables=tables,
            guidance=guidance,
        )
        return action, result

    def _guidance(self, proprio: RobotState) -> Guidance | None:
        """Return what the chunk has to continue, None where there is nothing or it is not asked for."""
        committed, limit = self._committed, self.settings.guidance
        if limit <= 0.0 or committed is None or committed.covered < 1:
            return None
        device = self._head.device
        target = self._action_units.to_model(relative_rows(self._contract, committed.rows, proprio=proprio))
        rows = prefix_weights(len(target), fixed=committed.fixed, covered=committed.covered)
        weights = rows[:, None] * self._action_units.mask()
        return Guidance(target.to(device), weights.to(device), limit)

    def _tables_in_force(self) -> Tables | None:
        if self._tables is None and self._savings.tables:
            with torch.inference_mode(mode=False):  # a guided chunk takes gradients through what follows
                self._tables = build_tables(self._head, self._plan, slot=SLOT)
        return self._tables

    def _predicted(self, result: SampledChunk, stamp_ns: int) -> FuturePrediction | None:
        if result.future is None or not self.settings.future:
            return None
        embedding = result.future[0]
        if self._target_scale is not None:
            embedding = self._target_scale.undo(embedding)
        array = embedding.float().cpu().numpy()
        array.flags.writeable = False
        rows_ns = self._contract.chunk_rows * self._contract.control_period_ns
        return FuturePrediction(stamp_ns, stamp_ns + rows_ns, array, result.future_tau)

    def _raise_fault(self, payload: DustRouted, start: Tensor, rows: Tensor) -> None:
        """Name the first place that is not finite.

        Raises:
            PolicyFault: always.
        """
        require_finite_layers(payload.k, what="key of the planner context")
        require_finite_layers(payload.v, what="value of the planner context")
        require_finite(start, what="start noise")
        raise PolicyFault(
            f"the sampled chunk is not finite in {int((~torch.isfinite(rows)).any(-1).sum())} rows",
            where="the weights or the precision of the policy",
        )
