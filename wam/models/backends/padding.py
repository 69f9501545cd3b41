# SPDX-License-Identifier: Apache-2.0
"""A stage with many sets of shapes on a backend that wants few: shorter inputs are padded to the longest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from wam.models.backends.backend import OwnPrecision, Runner
from wam.models.backends.stage import StageInputs, StagePadding, StageSpec


def padded(stage: StageSpec) -> StageSpec:
    """Return the stage as its padding has it, each set of shapes once; the stage itself where it has no padding."""
    padding = stage.padding
    if padding is None:
        return stage

    def examples() -> Sequence[StageInputs]:
        return list({one.key: one for one in map(padding.pad, stage.examples())}.values())

    return replace(stage, module=padding.module, examples=examples, slices=None, kernels=None, padding=None)


class PaddedRunner:
    """Pads its arguments for a runner of the padded stage.

    Args:
        inner: of the padded stage.
        inputs: of the stage.
        padding: of the stage.
    """

    def __init__(self, inner: Runner, inputs: StageInputs, padding: StagePadding) -> None:
        self._inner, self._inputs, self._padding = inner, inputs, padding

    @property
    def precision(self) -> torch.dtype | None:
        """What the runner computes in."""
        return self._inner.precision if isinstance(self._inner, OwnPrecision) else None

    def bind(self) -> None:
        """Bind the runner."""
        self._inner.bind()

    def run(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the results."""
        args, kwargs = self._inputs.arguments(tensors)
        return self._inner.run(self._padding.pad(StageInputs.of(*args, **kwargs)).tensors)
