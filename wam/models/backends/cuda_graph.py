# SPDX-License-Identifier: Apache-2.0
"""Stages captured as CUDA graphs: one launch instead of thousands.

At batch 1 a GPU finishes most kernels of a stage sooner than Python can launch the next. A captured stage is launched
whole; it works on buffers of its own, so arguments are copied in and results copied out (44 MB of keys and values take
about 40 us on an H200), and nothing that a caller holds is ever written again.

Graphs that share a pool of memory may write each other's results when they are replayed, so planner, executor and the
image encoder that both call have a pool each, and a pool's lock is held from copying in to having copied out.

Shapes are fixed at capture: every new set of shapes is captured once, and judged against the eager stage before it is
used (`gate`). Capture belongs before the node is active (`warm_up` of planner and executor); it is allowed later, and
stalls.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from wam.core.errors import PolicyFault
from wam.models.backends.backend import CUDA_GRAPH_NAME, PolicyPart
from wam.models.backends.gate import StageVerdict, judge_stage

F = TypeVar("F", bound=Callable[..., Any])
Capture = Callable[[Callable[[], Any]], tuple[Callable[[], None], Any]]
"""Runs a function on static buffers and returns (replay, its static results)."""

WARM_UP_RUNS = 3
MAX_SHAPES = 16
"""Captured variants of one stage; the planner's memory needs one for each of its lengths."""


@dataclass(frozen=True, slots=True)
class _Captured:
    """One captured variant.

    Attributes:
        inputs: static buffers, in the order of the flattened arguments.
        outputs: static results, flattened.
        shape: how the results are put together.
        replay: runs the graph on the current stream.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    shape: pytree.TreeSpec
    replay: Callable[[], None]

    def run(self, leaves: list[Any]) -> Any:
        """Copy the arguments in, replay, and return copies of the results; the pool's lock is held."""
        for static, tensor in zip(self.inputs, _tensors(leaves), strict=True):
            static.copy_(tensor)
        self.replay()
        return pytree.tree_unflatten([out.clone() for out in self.outputs], self.shape)


class Pool:
    """Memory that captured graphs share, and the lock that lets one of them run at a time.

    Args:
        capture: records a run into this memory.
    """

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.lock = threading.RLock()


class GraphedStage:
    """A stage that is captured for each set of shapes it is called with. Safe to call from any thread.

    Args:
        stage: name, for errors.
        function: eager stage.
        pool: where its graphs live.

    Attributes:
        verdicts: what the gate found of every variant, in the order of capture.
    """

    def __init__(self, stage: str, function: Callable[..., Any], *, pool: Pool) -> None:
        self._stage, self._function, self._pool = stage, function, pool
        self._captured: dict[object, _Captured] = {}
        self.verdicts: list[StageVerdict] = []

    @property
    def variants(self) -> int:
        """Sets of shapes captured so far."""
        return len(self._captured)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the stage.

        Raises:
            PolicyFault: the graph does not compute what the eager stage does, or shapes keep changing.
        """
        leaves, shape = pytree.tree_flatten((args, kwargs))
        constants = tuple(None if isinstance(leaf, Tensor) else leaf for leaf in leaves)
        key = (shape, constants, tuple((t.shape, t.dtype) for t in _tensors(leaves)))
        with self._pool.lock:
            variant = self._captured.get(key)
            if variant is None:
                variant = self._record(leaves, shape)
                self._judge(variant, args, kwargs)
                self._captured[key] = variant
            return variant.run(leaves)

    def _record(self, leaves: list[Any], shape: pytree.TreeSpec) -> _Captured:
        if len(self._captured) == MAX_SHAPES:
            raise PolicyFault(
                f"stage {self._stage} was called with {MAX_SHAPES + 1} different sets of shapes",
                allowed="fixed shapes",
                where="the parameter `backend` (eager takes any shape)",
            )
        static = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        args, kwargs = pytree.tree_unflatten(static, shape)
        replay, results = self._pool.capture(lambda: self._function(*args, **kwargs))
        outputs, out_shape = pytree.tree_flatten(results)
        return _Captured(tuple(_tensors(static)), tuple(outputs), out_shape, replay)

    def _judge(self, variant: _Captured, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        def graphed(*args: Any, **kwargs: Any) -> Any:
            return variant.run(pytree.tree_leaves((args, kwargs)))

        verdict = judge_stage(self._stage, self._function, graphed, args, kwargs)
        self.verdicts.append(verdict)
        worst = verdict.worst
        if not verdict.passed:
            raise PolicyFault(
                f"result {worst.place} of the captured stage {self._stage} differs from the eager one by "
                f"{worst.difference:.3g} of its size ({worst.case})",
                allowed=f"at most {worst.allowed:.3g}",
                where="the parameter `backend` (eager), and a report with GPU, driver and torch version",
            )


class CudaGraphs:
    """Captures every stage on the current device; the graphs of one part share their memory.

    Args:
        new_capture: returns a capture with memory of its own; None uses CUDA.
    """

    name = CUDA_GRAPH_NAME

    def __init__(self, *, new_capture: Callable[[], Capture] | None = None) -> None:
        new_capture = new_capture or cuda_capture
        self._pools = {part: Pool(new_capture()) for part in PolicyPart}
        self._stages: list[GraphedStage] = []

    @property
    def verdicts(self) -> tuple[StageVerdict, ...]:
        """What the gate has found so far, of every stage and set of shapes."""
        return tuple(verdict for stage in self._stages for verdict in stage.verdicts)

    def prepare(self, stage: str, function: F, *, part: PolicyPart) -> F:
        """Return the stage as a `GraphedStage`."""
        graphed = GraphedStage(stage, function, pool=self._pools[part])
        self._stages.append(graphed)
        return cast(F, graphed)


def _tensors(leaves: list[Any]) -> list[Tensor]:
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


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
