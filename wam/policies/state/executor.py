# SPDX-License-Identifier: Apache-2.0
"""The fast half: joint positions and ground truth in, a chunk out."""

from __future__ import annotations

import time

import torch

from wam.core.chunk import ActionChunk
from wam.core.context import PlannerContext
from wam.core.contract import PolicyContract
from wam.core.observation import Observation, RobotState
from wam.core.policy import RoutedContext, routable_offset
from wam.models.backends.plan import BackendPlan, eager_plan
from wam.models.backends.stage import PolicyPart, StageSpec
from wam.models.finite import require_finite
from wam.models.normalisation import Normaliser
from wam.policies.results import action_chunk
from wam.policies.state.context import StateContext, StateRouted, environment_of
from wam.policies.state.network import StateNetwork


class StateExecutor:
    """One forward pass. One worker thread calls it.

    Args:
        network: loaded.
        contract: of the bundle.
        state_norm: of the joint positions.
        action_norm: of the action rows, which are relative to the measured state.
        device: of the network.
        plan: what runs the network.
    """

    def __init__(
        self,
        network: StateNetwork,
        *,
        contract: PolicyContract,
        state_norm: Normaliser,
        action_norm: Normaliser,
        device: torch.device | str,
        plan: BackendPlan | None = None,
    ) -> None:
        self._network = network
        self._run = (plan or eager_plan()).prepare(StageSpec("network", PolicyPart.EXECUTOR, network))
        self._contract = contract
        self._state_norm = state_norm
        self._action_norm = action_norm
        self._device = device

    def route(
        self, observation: Observation, *, context: PlannerContext[StateContext]
    ) -> RoutedContext[StateRouted]:
        """Take the ground truth of the observation, or that of the context.

        Raises:
            ContractMismatch: the context comes from another policy.
            StaleObservation: the observation has no ground truth but needs it, or is older than the context's.
            StaleContext: the observation lies beyond the horizon of the context.
        """
        started_ns = time.perf_counter_ns()
        offset = routable_offset(self._contract, context.header, stamp_ns=observation.stamp_ns)
        environment = context.payload.environment
        if self._network.config.live:
            environment = environment_of(observation, self._contract)
        return RoutedContext(
            context.header, observation.stamp_ns, StateRouted(environment, offset, started_ns)
        )

    @torch.inference_mode()
    def act(self, routed: RoutedContext[StateRouted], *, proprio: RobotState) -> ActionChunk:
        """Return one chunk.

        Raises:
            JointError: the state lacks a joint of the policy.
            PolicyFault: a value is not finite.
        """
        payload, contract = routed.payload, self._contract
        positions = proprio.select(contract.state_joints).positions
        state = torch.from_numpy(self._state_norm.to_model(positions)).float()
        dtype = self._network.environment_mean.dtype
        given = (values[None].to(self._device, dtype) for values in (state, payload.environment))
        rows = self._run(*given)[0]
        require_finite(rows, what="action row")
        return action_chunk(
            contract,
            routed,
            self._action_norm.to_si(rows.float().cpu().numpy()),
            proprio=proprio,
            offset_rows=payload.offset_rows,
            started_ns=payload.started_ns,
        )
