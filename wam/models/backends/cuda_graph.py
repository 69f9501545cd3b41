# SPDX-License-Identifier: Apache-2.0
"""Stages captured as CUDA graphs: one launch instead of thousands.

At batch 1 a GPU finishes most kernels of a stage sooner than Python can launch the next. A captured stage is launched
whole; it works on buffers of its own, so arguments are copied in and results copied out (44 MB of keys and values take
about 40 us on an H200), and nothing that a caller holds is ever written again. Where a stage's arguments are immutable,
the tensor that a buffer was filled from last is not copied again: keys and values of a context lie there for all
evaluations of a chunk. What is captured is the runner of another backend: eager, or any other whose runs launch
kernels alone.

Graphs that share a pool of memory may write each other's results when they are replayed, so planner, executor and the
image encoder that both call have a pool each, and a pool's lock is held from copying in to having copied out.

Shapes are fixed at capture: every set of shapes is captured once, and judged against the eager stage before it is used
(`gate`). Both take long and stop the device, so they belong before the node is active: shapes that a stage's examples
do not have (an instruction of another length) run eagerly. Only a stage without examples is captured as its shapes
come.
"""

from __future__ import annotations

import functools
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from wam.core.errors import PolicyFault
from wam.models.backends.backend import (
    CUDA_GRAPH_NAME,
    Backend,
    Eager,
    OwnPrecision,
    Runner,
    Sliced,
    StageUnavailable,
)
from wam.models.backends.stage import PolicyPart, StageInputs, StageSlices, StageSpec
from wam.models.backends.turns import LONGEST_WAIT_S

Capture = Callable[[Callable[[], Any]], tuple[Callable[[], None], Any]]
"""Runs a function on static buffers and returns (replay, its static results)."""

WARM_UP_RUNS = 3
MAX_SHAPES = 16
"""Captured variants of one stage; the planner's memory needs one for each of its lengths."""


class Pool:
    """Memory that captured graphs share, and the lock that lets one of them run at a time.

    Args:
        capture: records a run into this memory.
    """

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.lock = threading.RLock()


class CudaGraphRunner:
    """A runner that is captured. Safe to call from any thread.

    Args:
        inner: what is captured.
        inputs: of the stage; copied.
        pool: where the graph lives.
        immutable: as `StageSpec.immutable`.
        slices: what is captured instead of `inner`, one graph for each.

    Attributes:
        copied: arguments that were copied in so far.
    """

    def __init__(
        self,
        inner: Runner,
        inputs: StageInputs,
        *,
        pool: Pool,
        immutable: bool = False,
        slices: StageSlices | None = None,
    ) -> None:
        self._inner, self._pool, self._immutable, self._slices = inner, pool, immutable, slices
        self._shapes = inputs
        self._inputs = tuple(tensor.clone() for tensor in inputs.tensors)
        # Weak: a context whose lease has ended must not be kept, and whatever takes its address is another object.
        self._from: list[weakref.ref[Tensor] | None] = [None for _ in inputs.tensors]
        self.copied = 0
        self._outputs: tuple[Tensor, ...] = ()
        self._replays: list[Callable[[], None]] = []

    @property
    def precision(self) -> torch.dtype | None:
        """What the captured runner computes in; None for the stage's own."""
        return self._inner.precision if isinstance(self._inner, OwnPrecision) else None

    def bind(self) -> None:
        """Capture.

        Raises:
            StageUnavailable: the device has no memory left for it or does not capture it, or the stage does what a
                graph cannot hold.
        """
        self._inner.bind()
        try:
            with self._pool.lock:
                self._capture()
        except torch.OutOfMemoryError as error:
            raise StageUnavailable(
                f"the device has no memory left for its graph ({str(error).splitlines()[0]}): "
                "free some, or take backend eager"
            ) from error
        except RuntimeError as error:
            # PyTorch has no class of its own for what a driver refuses.
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise StageUnavailable(
                f"it cannot be captured as a graph ({why}): update the driver, or take backend eager and report it "
                "with GPU, driver and versions"
            ) from error

    def _capture(self) -> None:
        if self._slices is None:
            replay, results = self._pool.capture(lambda: self._inner.run(self._inputs))
            self._replays, self._outputs = [replay], tuple(results)
            return
        args, kwargs = self._shapes.arguments(self._inputs)
        for module in self._slices.modules:
            # The results of the slice before are where this one finds them at every replay.
            run = functools.partial(_flat, module, self._outputs, *args, **kwargs)
            replay, results = self._pool.capture(run)
            self._replays.append(replay)
            self._outputs = tuple(results)

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Copy the arguments in, replay, and return copies of the results."""
        assert self._replays, "`bind` comes before `run`"
        with self._pool.lock:
            for place, (static, tensor) in enumerate(zip(self._inputs, tensors, strict=True)):
                last = self._from[place]
                if last is not None and last() is tensor:
                    continue
                static.copy_(tensor)
                self.copied += 1
                if self._immutable:
                    self._from[place] = weakref.ref(tensor)
            until_s = time.monotonic() + LONGEST_WAIT_S
            for replay in self._replays:
                if self._slices is not None:
                    self._slices.turns.let_chunks_pass(until_s=until_s)
                replay()
            return [out.clone() for out in self._outputs]


def _flat(module: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Tensor]:
    leaves: list[Tensor] = pytree.tree_leaves(module(*args, **kwargs))
    return leaves


class CudaGraphs:
    """Captures what another backend runs, on the current device; the graphs of one part share their memory.

    Args:
        inner: whose runs are captured; None takes the eager stages.
        name: for choices, logs and reports.
        new_capture: returns a capture with memory of its own; None uses CUDA.
    """

    only_examples = True

    def __init__(
        self,
        inner: Backend | None = None,
        *,
        name: str = CUDA_GRAPH_NAME,
        new_capture: Callable[[], Capture] | None = None,
    ) -> None:
        new_capture = new_capture or cuda_capture
        self._inner: Backend = inner or Eager()
        self._name = name
        self._pools = {part: Pool(new_capture()) for part in PolicyPart}
        self._captured: dict[str, int] = {}

    @property
    def name(self) -> str:
        """Name for choices, logs and reports."""
        return self._name

    def probe(self) -> str:
        """Return why the captured backend does not run here, if so."""
        return self._inner.probe()

    def build(self, stage: StageSpec) -> None:
        """Make what the captured backend needs."""
        self._inner.build(stage)

    def load(self, stage: StageSpec, inputs: StageInputs) -> Runner:
        """Return a runner that is captured when it is bound.

        Raises:
            PolicyFault: the stage's shapes keep changing.
        """
        captured = self._captured.get(stage.name, 0)
        if captured == MAX_SHAPES:
            raise PolicyFault(
                f"stage {stage.name} was called with {MAX_SHAPES + 1} different sets of shapes",
                allowed="fixed shapes",
                where="the parameter `backend` (eager takes any shape)",
            )
        self._captured[stage.name] = captured + 1
        inner, pool = self._inner.load(stage, inputs), self._pools[stage.part]
        slices = inner.slices if isinstance(inner, Sliced) else None
        return CudaGraphRunner(inner, inputs, pool=pool, immutable=stage.immutable, slices=slices)

    def refused(self, stage: StageSpec, inputs: StageInputs, reason: str) -> bool:
        """Pass it on to the captured backend."""
        return self._inner.refused(stage, inputs, reason)


def cuda_capture() -> Capture:
    """Return a `Capture` that records CUDA graphs into a pool of memory of its own.

    Graphs of one pool may share it because they run one after another: they replay on the default stream, and under the
    lock of their `Pool`, which is held until results are copied out.
    """
    pool = torch.cuda.graph_pool_handle()

    def capture(run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_RUNS):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Thread-local: a camera's or the other half's thread may use the GPU meanwhile.
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            results = run()
        return graph.replay, results

    return capture
