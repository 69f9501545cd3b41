# SPDX-License-Identifier: Apache-2.0
"""What the planner hands to the executor: where things stood when the instruction was given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wam.core.contract import PolicyContract
from wam.core.errors import StaleObservation
from wam.core.observation import Observation
from wam.models.context_codec import TorchCodec


@dataclass(frozen=True, slots=True)
class StateContext:
    """Payload of a planner context.

    Attributes:
        environment: float32 [E], ground truth of the first observation under the instruction, in the contract's order.
    """

    environment: Tensor


@dataclass(frozen=True, slots=True)
class StateRouted:
    """Payload of a routed context.

    Attributes:
        environment: float32 [E], what the network is given.
        offset_rows: control rows between the context's observation and this one.
        started_ns: monotonic time at which routing began [ns].
    """

    environment: Tensor
    offset_rows: int
    started_ns: int


def codec() -> TorchCodec[StateContext]:
    """Return the codec of planner contexts."""
    return TorchCodec(
        lambda payload: {"environment": payload.environment},
        lambda tensors: StateContext(tensors["environment"]),
    )


def environment_of(observation: Observation, contract: PolicyContract) -> Tensor:
    """Return the ground truth of an observation in the contract's order, float32 [E].

    Raises:
        StaleObservation: it has none.
        JointError: it lacks a number of the contract.
    """
    if observation.environment is None:
        raise StaleObservation(
            "the observation has no ground truth",
            allowed="a simulated robot with a task",
            where="the policy (one that sees cameras)",
        )
    return torch.from_numpy(observation.environment.select(contract.environment)).float()
