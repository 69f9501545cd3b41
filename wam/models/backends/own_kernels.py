# SPDX-License-Identifier: Apache-2.0
"""The backend `triton`: stages by the suite's own kernels (`wam.models.kernels`).

A stage that has kernels of its own hands over what makes them (`StageSpec.kernels`). They are compiled here, for the
shapes of the stage's examples, before a node is active; on a GPU their launches are captured as a CUDA graph like those
of every other backend.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from wam.core.errors import WamError
from wam.models.backends.backend import TRITON_NAME, Runner, Sliced, StageUnavailable
from wam.models.backends.gpu import CudaGpu, Gpu
from wam.models.backends.stage import PolicyPart, StageInputs, StageSlices, StageSpec
from wam.models.kernels.availability import unavailable_because

OLDEST = (8, 0)
"""Compute capability: the first one that multiplies bfloat16 in hardware and copies to shared memory beside it."""
PRECISIONS = (torch.bfloat16, torch.float16, torch.float32)
INSTEAD = "take backend cuda_graph for it"


class OwnKernelRunner:
    """Runs one stage by kernels for one set of shapes.

    Args:
        run: what `StageSpec.kernels` made.
        inputs: of the stage.
        gpu: where; None for the interpreter.
        lock: of the stage's part; the buffers between kernels are shared.
    """

    def __init__(
        self,
        run: Callable[..., object],
        inputs: StageInputs,
        *,
        gpu: Gpu | None,
        lock: AbstractContextManager[object],
    ) -> None:
        self._run, self._inputs, self._gpu, self._lock = run, inputs, gpu, lock

    @property
    def slices(self) -> StageSlices | None:
        """Those of what runs the stage, if it has any."""
        return self._run.slices if isinstance(self._run, Sliced) else None

    def bind(self) -> None:
        """Compile every kernel, by a first run.

        Raises:
            StageUnavailable: a kernel does not compile or run here, or needs more than the GPU has.
        """
        with _told():
            if self._gpu is not None:
                self._keep_budget(self._gpu)
            self.run(self._inputs.tensors)
            if self._gpu is not None and self._gpu.device.type == "cuda":
                # A fault of a kernel is told by a later call.
                torch.cuda.synchronize(self._gpu.device)

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the results."""
        args, kwargs = self._inputs.arguments(tensors)
        with self._lock, self._gpu.chosen() if self._gpu is not None else nullcontext():
            results: list[Tensor] = pytree.tree_leaves(self._run(*args, **kwargs))
        return results

    def _keep_budget(self, gpu: Gpu) -> None:
        from wam.models.kernels.budget import too_large
        from wam.models.kernels.launch import recording

        with recording() as launches:
            self.run(self._inputs.tensors)
        facts = gpu.facts()
        try:
            reason = too_large(launches, 10 * facts.capability[0] + facts.capability[1])
        except (FileNotFoundError, subprocess.CalledProcessError):
            # Some builds of triton come without the tool that reads a compiled kernel; what cannot be started at all
            # is refused by the first run.
            return
        if reason:
            raise StageUnavailable(
                f"its shapes are over the kernels' budget on {facts} ({reason}): {INSTEAD}"
            )


class OwnKernels:
    """Runs stages by own kernels.

    Args:
        device: where the policy computes.
        gpu: that device, where it is one; None takes it through PyTorch.
        unavailable: says why kernels cannot run on a device.
    """

    name = TRITON_NAME
    only_examples = True

    def __init__(
        self,
        device: torch.device | str,
        *,
        gpu: Gpu | None = None,
        unavailable: Callable[[torch.device], str | None] = unavailable_because,
    ) -> None:
        self._device = torch.device(device)
        self._gpu = gpu or (CudaGpu(self._device) if self._device.type == "cuda" else None)
        self._unavailable = unavailable
        self._locks = {part: threading.Lock() for part in PolicyPart}

    def probe(self) -> str:
        """Return why the kernels do not run here, with the remedy."""
        if reason := self._unavailable(self._device):
            return reason
        if self._gpu is not None and (facts := self._gpu.facts()).capability < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            return f"the GPU is too old: {facts}, the kernels need {oldest}; take backend cuda_graph"
        return ""

    def build(self, stage: StageSpec) -> None:
        """Nothing to make: kernels are compiled when they are loaded."""

    def load(self, stage: StageSpec, inputs: StageInputs) -> Runner:
        """Return the stage by kernels.

        Raises:
            StageUnavailable: there are no kernels for it, or they do not take its precision, its shapes, or the memory
                that is free.
        """
        if stage.kernels is None:
            raise StageUnavailable(
                f"it has no kernels of its own: {INSTEAD}, or 'triton or auto' for all that have none"
            )
        weights = stage.module.parameters() if isinstance(stage.module, nn.Module) else ()
        for dtype in {weight.dtype for weight in weights if weight.is_floating_point()} - set(PRECISIONS):
            kinds = ", ".join(str(kind).removeprefix("torch.") for kind in PRECISIONS)
            raise StageUnavailable(
                f"the kernels do not compute in {str(dtype).removeprefix('torch.')}: a bundle in {kinds}"
            )
        with _told():
            run = stage.kernels(inputs)
        return OwnKernelRunner(run, inputs, gpu=self._gpu, lock=self._locks[stage.part])

    def refused(self, stage: StageSpec, inputs: StageInputs, reason: str) -> bool:
        """Nothing to note: nothing of it is kept on disk."""
        return False


@contextmanager
def _told() -> Iterator[None]:
    """Turn whatever a compiler or a driver raises into one line with the remedy."""
    try:
        yield
    except StageUnavailable:
        raise
    except torch.OutOfMemoryError as error:
        raise StageUnavailable(
            f"the device has no memory left for its kernels ({_line(error)}): free some, or {INSTEAD}"
        ) from error
    except ValueError as error:
        raise StageUnavailable(f"its shapes do not fit the kernels ({_line(error)}): {INSTEAD}") from error
    except WamError as error:
        raise StageUnavailable(str(error)) from error
    except Exception as error:
        # Triton's compiler, its C compiler and the driver have no class of their errors in common.
        if "C compiler" in str(error):
            raise StageUnavailable(
                "triton finds no C compiler for the code that launches kernels: sudo apt install gcc, or set CC; "
                f"or {INSTEAD}"
            ) from error
        raise StageUnavailable(
            f"its kernels do not run here ({_line(error)}): {INSTEAD}, and report it with GPU, driver and versions"
        ) from error


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
