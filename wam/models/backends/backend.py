# SPDX-License-Identifier: Apache-2.0
"""The interface between a stage of inference and the backend that runs it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from wam.models.backends.gate import StageVerdict
from wam.runtime.policy import BACKENDS

F = TypeVar("F", bound=Callable[..., Any])

AUTO, EAGER_NAME, CUDA_GRAPH_NAME = BACKENDS


class PolicyPart(enum.Enum):
    """What a stage belongs to; stages of one part never need each other's results at the same time."""

    VISION = "vision"
    PLANNER = "planner"
    EXECUTOR = "executor"


class Backend(Protocol):
    """Runs stages. A stage is a function of tensors, or of records of tensors, without hidden state."""

    @property
    def name(self) -> str:
        """Name for logs and reports."""
        ...

    @property
    def verdicts(self) -> tuple[StageVerdict, ...]:
        """What the gate has found so far, of every stage and set of shapes."""
        ...

    def prepare(self, stage: str, function: F, *, part: PolicyPart) -> F:
        """Return a replacement for `function`: same arguments, same results, never an alias of an argument.

        It may be called from any thread: the encoder of the images is called by planner and executor.

        Args:
            stage: name, for errors.
            function: eager stage; its results depend on its arguments and on weights alone.
            part: what the stage belongs to; memory may be shared with the other stages of it.
        """
        ...


class Eager:
    """Runs a stage as it is written."""

    name = EAGER_NAME
    verdicts: tuple[StageVerdict, ...] = ()

    def prepare(self, stage: str, function: F, *, part: PolicyPart) -> F:
        """Return `function` itself."""
        return function
