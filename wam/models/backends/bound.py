# SPDX-License-Identifier: Apache-2.0
"""A stage on a backend: one runner for each set of shapes, judged against the eager stage before it is used.

A runner that fails while a robot moves gives no result: that call ends with an error, so that nothing which was
computed beside the failure is executed, and from the next one on the stage runs as it is written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from wam.core.errors import PolicyFault, StageFailed, WamError
from wam.models.backends.backend import Backend, OwnPrecision, Runner, StageUnavailable
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
        failed: told once, if the backend fails in a run: why, and whether the backend keeps what failed from the next
            start itself. Any thread.

    Attributes:
        verdicts: what the gate found of every set of shapes, in the order in which they were met.
        failure: why the stage runs as it is written although the backend was chosen; "" while the backend runs it.
    """

    def __init__(
        self, stage: StageSpec, backend: Backend, *, failed: Callable[[str, bool], None] | None = None
    ) -> None:
        self.stage, self.backend, self.failure = stage, backend, ""
        self._failed = failed or (lambda _why, _kept: None)
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
            StageFailed: the backend failed; the next call runs the stage as it is written.
            PolicyFault: the backend does not compute what the eager stage does, shapes keep changing, or the device
                does not compute any more.
        """
        if self.failure:
            return self.stage.module(*args, **kwargs)
        inputs = StageInputs.of(*args, **kwargs)
        variant = self._variants.get(inputs.key)
        if variant is None:
            if not self._open:
                self._left.add(inputs.key)
                return self.stage.module(*args, **kwargs)
            variant = self._variant(inputs)
        try:
            return variant.run(inputs)
        # Of a runtime, a driver or a compiler: their errors have no class in common.
        except Exception as error:
            raise self._fault(inputs, error) from error

    def _fault(self, inputs: StageInputs, error: Exception) -> Exception:
        """Take the stage from a backend that has failed, and return what to raise."""
        why, name = _line(error), self.backend.name
        args, kwargs = inputs.arguments()
        gone = ""
        try:
            self.stage.module(*args, **kwargs)
        except Exception as other:
            if not any(tensor.device.type == "cuda" for tensor in inputs.tensors):
                # The stage itself does not take these inputs: no fault of the backend.
                return error
            gone = _line(other)
        with self._lock:
            if not self.failure:
                self.failure = why
                # For want of memory nothing is wrong with what was loaded.
                kept = isinstance(error, torch.OutOfMemoryError) or self.backend.refused(
                    self.stage, inputs, why
                )
                self._failed(why, kept)
        what = f"stage {self.stage.name} failed on backend {name} ({why})"
        if gone:
            return PolicyFault(
                f"{what}, and the device does not run it as it is written either ({gone})",
                where="the node: start it again; this backend is not taken for this stage then",
            )
        return StageFailed(
            f"{what}; no chunk is made of this call, and from now on the stage runs as it is written, which takes "
            f"longer: deactivate the node, see what wam check-backend says, and restart it",
            stage=self.stage.name,
        )

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
        try:
            verdict = judge_stage(
                self.stage.name, self.stage.module, variant, args, kwargs, precision=precision
            )
        except WamError:
            raise
        except Exception as error:  # As in a run.
            if not isinstance(error, torch.OutOfMemoryError):
                self.backend.refused(self.stage, inputs, _line(error))
            raise StageUnavailable(
                f"it failed while it was compared with the eager stage ({_line(error)}): take another backend for it, "
                "and report it with processor or GPU, driver and versions"
            ) from error
        self.verdicts.append(verdict)
        if not verdict.passed:
            worst, name = verdict.worst, self.backend.name
            self.backend.refused(self.stage, inputs, str(worst.case))
            raise PolicyFault(
                f"result {worst.place} of stage {self.stage.name} on backend {name} differs from the eager one by "
                f"{worst.difference:.3g} of its size ({worst.case})",
                allowed=f"at most {worst.allowed:.3g}",
                where="the parameter `backend` (eager), and a report with processor or GPU, driver and versions",
            )


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
