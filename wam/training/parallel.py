# SPDX-License-Identifier: Apache-2.0
"""One process or many: joining the group that `torchrun` started, and sharding a model over it (FSDP2).

Activation recomputation is here too: both trade time for memory.

The networks are called by methods, not by one `forward` per block, so parameters are gathered for the whole
step (`gathered`) and gradients, optimiser state and master weights are sharded: ZeRO-2, as the released code
trains. Each transformer block is a communication group of its own, which bounds the buffers.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import checkpoint

from wam.core.errors import ConfigError
from wam.training.objective import Objective
from wam.training.options import Precision


@dataclass(frozen=True, slots=True)
class World:
    """This process among all of a run.

    Attributes:
        rank: its number; 0 writes files and reports.
        size: how many there are.
        device: where its share of the model lives.
        owns_group: whether `leave_world` ends the process group, which it does if `join_world` began it.
    """

    rank: int
    size: int
    device: torch.device
    owns_group: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0


def pick_device(option: str, *, local_rank: int = 0) -> torch.device:
    """Return the device that a configuration asks for.

    Raises:
        ConfigError: CUDA was asked for by name and there is none.
    """
    if option == "cpu" or (option == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError(
            "run.device", value=option, allowed="auto or cpu on this machine", where="run.device"
        )
    return torch.device("cuda", local_rank)


def join_world(option: str) -> World:
    """Join the group that `torchrun` describes in the environment, or be alone.

    Raises:
        ConfigError: see `pick_device`.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    device = pick_device(option, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, as the released code trains
    if size == 1:
        return World(0, 1, device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if dist.is_initialized():
        return World(dist.get_rank(), size, device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return World(dist.get_rank(), size, device, owns_group=True)


def wait_for_all(world: World) -> None:
    """Return once every process has made this call."""
    if world.size > 1:
        dist.barrier()


def leave_world(world: World) -> None:
    """Undo `join_world`."""
    if world.owns_group:
        dist.destroy_process_group()


def shard(
    objective: nn.Module,
    world: World,
    *,
    precision: Precision,
    blocks: tuple[type[nn.Module], ...] = (),
) -> None:
    """Shard parameters, gradients and optimiser state over all processes; alone, do nothing.

    Args:
        objective: module whose `forward` is the whole step.
        world: from `join_world`.
        precision: what gathered parameters become; gradients are summed in float32.
        blocks: modules that are a communication group of their own.
    """
    if world.size == 1:
        return
    mesh = init_device_mesh(world.device.type, (world.size,))
    gathered_dtype = torch.bfloat16 if precision is Precision.BFLOAT16 else None
    policy = MixedPrecisionPolicy(
        param_dtype=gathered_dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    groups = [module for module in objective.modules() if isinstance(module, blocks)]
    for module in (*groups, objective):
        fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=False)


def place(objective: Objective[Any], world: World, *, precision: Precision) -> None:
    """Bring an objective to the device, sharded where there are several processes; the first one's weights count.

    Args:
        objective: on the CPU.
        world: from `join_world`.
        precision: see `shard`.
    """
    if world.size == 1:
        objective.to(world.device)
        return
    weights = objective.network.state_dict() if world.is_first else {}
    if objective.first_holds_weights:
        if world.is_first:
            objective.to("meta")
        shard(objective, world, precision=precision, blocks=objective.blocks)
        objective.to_empty(device=world.device)
    else:
        objective.to(world.device)
        shard(objective, world, precision=precision, blocks=objective.blocks)
    for network in objective.networks:
        put_weights(network, weights, world)


def full_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return all weights on the CPU; with several processes every one must call, and the first gets them."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    found = get_model_state_dict(model, options=options)
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def put_weights(model: nn.Module, weights: Mapping[str, Tensor], world: World) -> None:
    """Fill a model; with several processes the first one's weights go to all."""
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=world.size > 1)
    set_model_state_dict(model, dict(weights), options=options)


def recompute(model: nn.Module, methods: Sequence[tuple[type[nn.Module], str]]) -> int:
    """Make blocks keep their inputs alone and compute inner activations again in the backward pass.

    Args:
        model: changed in place; its weights are not touched.
        methods: class of a block and the name of its method.

    Returns:
        Number of methods that were wrapped.
    """
    wrapped = 0
    for module in model.modules():
        for kind, name in methods:
            if isinstance(module, kind):
                setattr(module, name, functools.partial(_recomputed, getattr(module, name)))
                wrapped += 1
    return wrapped


def _recomputed(method: Any, *args: Any, **kwargs: Any) -> Any:
    return checkpoint(method, *args, use_reentrant=False, **kwargs)


@contextmanager
def gathered(objective: nn.Module) -> Iterator[None]:
    """Hold all parameters in full inside the block; a backward pass inside ends with sharded gradients."""
    groups = [module for module in objective.modules() if isinstance(module, FSDPModule)]
    for group in groups:
        group.unshard()
    yield
    for group in groups:
        group.reshard()


def mean_over_world(values: Tensor, world: World) -> Tensor:
    """Return the mean over all processes."""
    if world.size == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / world.size


def any_in_world(flag: bool, world: World) -> bool:
    """Return whether the flag is set in any process, the same answer in all."""
    if world.size == 1:
        return flag
    votes = torch.tensor([int(flag)], device=world.device)
    dist.all_reduce(votes)
    return bool(votes.item())
