# SPDX-License-Identifier: Apache-2.0
"""The interface between a stage of inference and the backend that runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from wam.runtime.policy import BACKENDS

F = TypeVar("F", bound=Callable[..., Any])

AUTO, EAGER_NAME, CUDA_GRAPH_NAME = BACKENDS


class Backend(Protocol):
    """Runs stages. A stage is a function of tensors, or of records of tensors, without hidden state."""

    @property
    def name(self) -> str:
        """Name for logs and reports."""
        ...

    def prepare(self, stage: str, function: F) -> F:
        """Return a replacement for `function`: same arguments, same results, never an alias of an argument.

        Args:
            stage: name, for errors.
            function: eager stage; its results depend on its arguments and on weights alone.
        """
        ...


class Eager:
    """Runs a stage as it is written."""

    name = EAGER_NAME

    def prepare(self, stage: str, function: F) -> F:
        """Return `function` itself."""
        return function
