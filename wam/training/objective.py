# SPDX-License-Identifier: Apache-2.0
"""What a run minimises: a module that draws random numbers for a batch and returns the losses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from wam.training.action_error import PredictedRows


class TrainingBatch(Protocol):
    """Samples that go through one forward pass."""

    @property
    def size(self) -> int:
        """Number of samples."""
        ...


class StepLosses(Protocol):
    """Scalars of one forward pass: a NamedTuple whose `total` is minimised."""

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        ...

    def _asdict(self) -> dict[str, Tensor]: ...


BatchT = TypeVar("BatchT", bound=TrainingBatch)


class Objective(nn.Module, Generic[BatchT]):
    """The loss as a module, so that sharded data parallelism finds one forward pass to wrap.

    Calling it with a batch and `draw`'s result returns `StepLosses`. All random numbers come from `draw`, so that a
    resumed run repeats those of an uninterrupted one.

    Attributes:
        blocks: modules that are a communication group of their own where there are several processes.
        first_holds_weights: only the first process is given weights; in the others the networks begin on the meta
            device. Every buffer must then be part of the state dict.
    """

    blocks: ClassVar[tuple[type[nn.Module], ...]] = ()
    first_holds_weights: ClassVar[bool] = False

    @property
    @abstractmethod
    def loss_names(self) -> tuple[str, ...]:
        """Names of the losses, in the order of the columns of `losses.csv`."""

    @property
    def network(self) -> nn.Module:
        """What checkpoints and bundles hold."""
        return self

    @property
    def networks(self) -> Sequence[nn.Module]:
        """Networks that begin with equal weights, `network` first; the student and teacher of a distillation."""
        return (self.network,)

    @abstractmethod
    def draw(self, batch: BatchT, generator: torch.Generator) -> Any:
        """Draw the random numbers of one forward pass.

        Args:
            batch: gives the shapes.
            generator: seeded for this batch.
        """

    def predict(self, batch: BatchT, generator: torch.Generator) -> PredictedRows | None:
        """Return the action rows of a batch as the policy would send them; None where a run has no actions.

        Args:
            batch: of validation episodes.
            generator: of the start noise.
        """
        return None

    def decays(self, name: str) -> bool:
        """Return whether weight decay acts on a parameter.

        Args:
            name: of the parameter in this module.
        """
        return True
