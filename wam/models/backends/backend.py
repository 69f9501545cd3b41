# SPDX-License-Identifier: Apache-2.0
"""The interface between the stages of inference and the backends that run them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from wam.core.errors import WamError
from wam.models.backends.stage import StageInputs, StageSlices, StageSpec
from wam.runtime.policy import BACKENDS

AUTO, EAGER_NAME, CUDA_GRAPH_NAME, ONNX_RUNTIME_NAME, TENSORRT_NAME, TRITON_NAME, COMPILE_NAME = BACKENDS
HOST_NAME = "host"
"""What runs the work of a policy that no backend may take over: it is none on the device's tensors."""


class StageUnavailable(WamError):
    """A backend cannot run a stage here: one line that names the cause and the remedy.

    A plan that may choose takes another backend; one that may not ends loading with a `BundleError`.
    """


class Runner(Protocol):
    """Runs one stage for one set of shapes."""

    def bind(self) -> None:
        """Prepare everything that a run needs (buffers, capture, session); called once, before the first run.

        Raises:
            StageUnavailable: it cannot be prepared.
        """
        ...

    def run(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the stage's results, flattened; never an alias of an argument or of an earlier result.

        It may be called from any thread: the encoder of the images is called by planner and executor.
        """
        ...


@runtime_checkable
class OwnPrecision(Protocol):
    """What a runner has that may compute in another precision than the stage as it is written."""

    @property
    def precision(self) -> torch.dtype | None:
        """What it computes in; None for the stage's own."""
        ...


@runtime_checkable
class Sliced(Protocol):
    """What a runner has that can run its stage in parts."""

    @property
    def slices(self) -> StageSlices | None:
        """The parts; None where it has none."""
        ...


class Backend(Protocol):
    """A way to run stages."""

    @property
    def name(self) -> str:
        """Name for choices, logs and reports."""
        ...

    @property
    def only_examples(self) -> bool:
        """Whether shapes that the examples do not have are left to the eager stage."""
        ...

    def probe(self) -> str:
        """Return why it does not run on this machine, with the remedy; "" where it does."""
        ...

    def build(self, stage: StageSpec) -> None:
        """Make what `load` needs and does not find, in a child process; may take minutes.

        Raises:
            StageUnavailable: it cannot be made.
        """
        ...

    def load(self, stage: StageSpec, inputs: StageInputs) -> Runner:
        """Return what runs the stage for inputs of these shapes; `bind` comes next.

        Raises:
            StageUnavailable: there is nothing to load, or it is damaged or was made for something else.
        """
        ...

    def refused(self, stage: StageSpec, inputs: StageInputs, reason: str) -> bool:
        """Take note that what was loaded for these inputs was refused by the gate, or has failed.

        Returns:
            Whether it is kept on disk, and is not going to be loaded again before it is made anew.
        """
        ...


class EagerRunner:
    """Runs a stage as it is written."""

    def __init__(self, stage: StageSpec, inputs: StageInputs) -> None:
        self._stage, self._inputs = stage, inputs

    @property
    def slices(self) -> StageSlices | None:
        """The stage's own."""
        return self._stage.slices

    def bind(self) -> None:
        """Nothing to prepare."""

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the results."""
        args, kwargs = self._inputs.arguments(tensors)
        results: list[Any] = pytree.tree_leaves(self._stage.module(*args, **kwargs))
        return results


class Eager:
    """Runs every stage as it is written."""

    name = EAGER_NAME
    only_examples = False

    def probe(self) -> str:
        """Return "": it runs everywhere."""
        return ""

    def build(self, stage: StageSpec) -> None:
        """Nothing to make."""

    def load(self, stage: StageSpec, inputs: StageInputs) -> Runner:
        """Return the stage itself."""
        return EagerRunner(stage, inputs)

    def refused(self, stage: StageSpec, inputs: StageInputs, reason: str) -> bool:
        """Nothing to note: it is what others are compared with."""
        return False
