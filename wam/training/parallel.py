# SPDX-License-Identifier: Apache-2.0
"""One process or many: joining the group that `torchrun` started, and sharding a model over it (FSDP2).

The networks are called by methods, not by one `forward` per block, so parameters are gathered for the whole
step (`gathered`) and gradients, optimiser state and master weights are sharded: ZeRO-2, as the released code
trains. Each transformer block is a communication group of its own, which bounds the buffers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from wam.core.errors import ConfigError
from wam.models.layers.dit_block import DitBlock
from wam.policies.aha_wam.training.config import Precision


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
    """Return when every process has come here."""
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
    blocks: tuple[type[nn.Module], ...] = (DitBlock,),
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
