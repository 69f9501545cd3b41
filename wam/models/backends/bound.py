# SPDX-License-Identifier: Apache-2.0
"""A stage on a backend: one runner for each set of shapes, judged against the eager stage before it is used."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch.utils import _pytree as pytree

from wam.core.errors import PolicyFault
from wam.models.backends.backend import Backend, OwnPrecision, Runner
from wam.models.backends.gate import StageVerdict, judge_stage
from wam.models.backends.stage import StageInputs, StageSpec


class _Variant:
    """A runner, and how its results are put together."""

    def __init__(self, runner: Runner, shape: pytree.TreeSpec) -> None:
        self._runner, self._shape = runner, shape

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(StageInputs.of(*args, **kwargs))

    def run(self, inputs: StageInputs) -> Any:
        return pytree.tree_unflatten(list(self._runner.run(inputs.tensors)), self._shape)


class BoundStage:
    """A stage that is called as it is written, and runs on a backend. Safe to call from any thread.

    Args:
        stage: what runs.
        backend: where.

    Attributes:
        verdicts: what the gate found of every set of shapes, in the order in which they were met.
    """

    def __init__(self, stage: StageSpec, backend: Backend) -> None:
        self.stage, self.backend = stage, backend
        self.verdicts: list[StageVerdict] = []
        self._lock = threading.RLock()
        self._variants: dict[object, _Variant] = {}
        # Keys alone: what is kept of a call would stay on the device.
        self._left: set[object] = set()
        self._open = True

    @property
    def variants(self) -> int:
        """Sets of shapes that the backend runs."""
        return len(self._variants)

    @property
    def unseen(self) -> int:
        """Sets of shapes that were left to the eager stage, because no example has them."""
        return len(self._left)

    def meet_examples(self) -> None:
        """Prepare every set of shapes that the examples have; belongs before the node is active.

        Afterwards a backend of `only_examples` takes no others.

        Raises:
            StageUnavailable: the backend cannot run one of them.
            PolicyFault: the backend does not compute what the eager stage does.
        """
        with torch.inference_mode():
            examples = self.stage.examples()
            for inputs in examples:
                self._variant(inputs)
        self._open = not (examples and self.backend.only_examples)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the stage.

        Raises:
            PolicyFault: the backend does not compute what the eager stage does, or shapes keep changing.
        """
        inputs = StageInputs.of(*args, **kwargs)
        variant = self._variants.get(inputs.key)
        if variant is None:
            if not self._open:
                self._left.add(inputs.key)
                return self.stage.module(*args, **kwargs)
            variant = self._variant(inputs)
        return variant.run(inputs)

    def _variant(self, inputs: StageInputs) -> _Variant:
        with self._lock:
            known = self._variants.get(inputs.key)
            if known is None:
                known = self._variants[inputs.key] = self._made(inputs)
            return known

    def _made(self, inputs: StageInputs) -> _Variant:
        outputs = self.stage.outputs(inputs)
        runner = self.backend.load(self.stage, inputs)
        runner.bind()
        variant = _Variant(runner, outputs.shape)
        self._judge(variant, inputs, runner.precision if isinstance(runner, OwnPrecision) else None)
        return variant

    def _judge(self, variant: _Variant, inputs: StageInputs, precision: torch.dtype | None) -> None:
        args, kwargs = inputs.arguments()
        verdict = judge_stage(self.stage.name, self.stage.module, variant, args, kwargs, precision=precision)
        self.verdicts.append(verdict)
        if not verdict.passed:
            worst, name = verdict.worst, self.backend.name
            self.backend.refused(self.stage, str(worst.case))
            raise PolicyFault(
                f"result {worst.place} of stage {self.stage.name} on backend {name} differs from the eager one by "
                f"{worst.difference:.3g} of its size ({worst.case})",
                allowed=f"at most {worst.allowed:.3g}",
                where="the parameter `backend` (eager), and a report with processor or GPU, driver and versions",
            )
