# SPDX-License-Identifier: Apache-2.0
"""A stage of inference, as a backend sees it: a function of tensors, inputs of every shape that it will meet."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from wam.models.backends.turns import DeviceTurns


class PolicyPart(enum.Enum):
    """What a stage belongs to; stages of one part never need each other's results at the same time."""

    VISION = "vision"
    PLANNER = "planner"
    EXECUTOR = "executor"


class StageInputs:
    """Arguments of one call, taken apart into tensors and what is fixed for all calls of their kind.

    Attributes:
        leaves: every value, in order; those that are no tensors are constants.
        shape: how the values are put together.
    """

    def __init__(self, leaves: Sequence[Any], shape: pytree.TreeSpec) -> None:
        self.leaves, self.shape = tuple(leaves), shape

    @staticmethod
    def of(*args: Any, **kwargs: Any) -> StageInputs:
        """Take the arguments of a call apart."""
        return StageInputs(*pytree.tree_flatten((args, kwargs)))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors among the values, in order."""
        return tuple(leaf for leaf in self.leaves if isinstance(leaf, Tensor))

    @property
    def key(self) -> object:
        """Equal for two calls that one runner can serve."""
        constants = tuple(None if isinstance(leaf, Tensor) else leaf for leaf in self.leaves)
        return self.shape, constants, tuple((t.shape, t.dtype) for t in self.tensors)

    def arguments(self, tensors: Sequence[Tensor] | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return arguments and keyword arguments, with other tensors where they are given."""
        leaves: Sequence[Any] = self.leaves
        if tensors is not None:
            given = iter(tensors)
            leaves = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.shape)
        return args, kwargs


@dataclass(frozen=True, slots=True)
class StaticOutputs:
    """What a stage gives for one set of shapes.

    Attributes:
        sizes: shape and type of every result, flattened.
        shape: how the results are put together.
    """

    sizes: tuple[tuple[torch.Size, torch.dtype], ...]
    shape: pytree.TreeSpec

    @staticmethod
    def of(results: Any) -> StaticOutputs:
        """Return the description of results."""
        leaves, shape = pytree.tree_flatten(results)
        return StaticOutputs(tuple((leaf.shape, leaf.dtype) for leaf in leaves), shape)


def _no_examples() -> Sequence[StageInputs]:
    return ()


@dataclass(frozen=True, slots=True)
class StageSlices:
    """A long stage as a run of short ones.

    Attributes:
        modules: one after another; each takes the results of the one before (a tuple, flattened; empty for the
            first) and the stage's arguments, and the last one returns the stage's results.
        turns: of the device, where a chunk goes before the next slice.
    """

    modules: tuple[nn.Module, ...]
    turns: DeviceTurns


@dataclass(frozen=True, slots=True)
class StagePadding:
    """A stage with few sets of shapes, for a backend whose every set costs the stage's weights once more.

    Attributes:
        module: takes padded inputs; its results are those of the stage.
        pad: inputs of the stage -> those of `module`; on the inputs' device, without waiting for it.
    """

    module: nn.Module
    pad: Callable[[StageInputs], StageInputs]


KernelStage = Callable[[StageInputs], Callable[..., Any]]
"""Makes what runs a stage by the suite's own kernels, for inputs of these shapes: same arguments, same results.

It raises `ValueError` where a shape does not fit the kernels, there or in a run. What it makes is called by one thread
at a time, and may reuse buffers between calls but for its results; it may have `slices` (`StageSlices`) as a stage has.
"""


@dataclass(frozen=True, slots=True)
class StageSpec:
    """A stage that a backend may run.

    Attributes:
        name: for errors and reports; unique within a policy.
        part: memory may be shared with the other stages of it.
        module: the stage as it is written; its results depend on its arguments and its weights alone, and it may be
            any callable where no backend exports it.
        examples: makes inputs of the shapes that calls will have, zeros are good enough; called once, and only where a
            backend needs them. Calls of other shapes run as they are written. Without any, shapes are met as they come,
            also while a robot moves. Whole numbers should not be all alike, or the gate cannot vary them.
        immutable: arguments are never written once they have been handed over, so that a backend with buffers of its
            own need not copy the same tensor a second time.
        slices: the same stage in parts, for a backend that can let others go between them; None for a short one.
        kernels: makes the same stage by own kernels (`wam.models.kernels`); None where there are none for it.
        chooses: its results are choices (the nearest of many codes), which the rounding of another runtime changes, so
            it is not exported.
        padding: the same stage with fewer sets of shapes; None where it has few.
        regions: methods of the module's layers, as their classes have them, that are worth compiling; functions of
            their arguments and the layer's weights. Empty where nothing is.
    """

    name: str
    part: PolicyPart
    module: nn.Module | Callable[..., Any]
    examples: Callable[[], Sequence[StageInputs]] = _no_examples
    immutable: bool = False
    slices: StageSlices | None = None
    kernels: KernelStage | None = None
    regions: tuple[Callable[..., Any], ...] = ()
    padding: StagePadding | None = None
    chooses: bool = False

    def outputs(self, inputs: StageInputs) -> StaticOutputs:
        """Return what the stage gives for inputs of these shapes; runs it once."""
        args, kwargs = inputs.arguments()
        return StaticOutputs.of(self.module(*args, **kwargs))


class EulerLoop(nn.Module):
    """Integrates a velocity by Euler steps: x <- x + delta_i * step(x, table[i], ...).

    A backend may run the whole loop in one call; then the number of steps is what the table's first axis says.

    Args:
        step: (x, one entry of the table, fixed arguments) -> velocity, shape of x.
        sigmas: noise levels, one more than there are steps.
    """

    deltas: Tensor

    def __init__(self, step: nn.Module, sigmas: Sequence[float]) -> None:
        super().__init__()
        self.step = step
        self._moves = tuple(b - a for a, b in itertools.pairwise(sigmas))
        # On the CPU whatever the weights' device: only exporters read it.
        with torch.device("cpu"):
            self.register_buffer("deltas", torch.tensor(self._moves, dtype=torch.float32), persistent=False)

    @property
    def moves(self) -> tuple[float, ...]:
        """Length of every step."""
        return self._moves

    def forward(self, x: Tensor, table_N: Tensor, *fixed: Any) -> Tensor:
        """Return the state after the last step, float32; `x` is never written to."""
        x = x.float()
        for i, move in enumerate(self._moves):
            x = torch.add(x, self.step(x, table_N[i], *fixed).float(), alpha=move)
        return x
