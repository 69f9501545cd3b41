# SPDX-License-Identifier: Apache-2.0
"""Stages captured as CUDA graphs: one launch instead of thousands.

At batch 1 a GPU finishes most kernels of a stage sooner than Python can launch the next. A captured stage is launched
whole; it works on buffers of its own, so arguments are copied in and results copied out (44 MB of keys and values take
about 40 us on an H200), and nothing that a caller holds is ever written again.

Shapes are fixed at capture: every new set of shapes is captured once, and compared with the eager stage before it is
used. Capture belongs before the node is active (`warm_up` of planner and executor); it is allowed later, and stalls.
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
from wam.models.backends.backend import CUDA_GRAPH_NAME

F = TypeVar("F", bound=Callable[..., Any])
Capture = Callable[[Callable[[], Any]], tuple[Callable[[], None], Any]]
"""Runs a function on static buffers and returns (replay, its static results)."""

WARM_UP_RUNS = 3
MAX_SHAPES = 16
"""Captured variants of one stage; the planner's memory needs one for each of its lengths."""
GATE = 0.02
"""Largest difference from the eager stage, as a share of its largest value: kernels may be chosen anew, no more."""


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


class GraphedStage:
    """A stage that is captured for each set of shapes it is called with. Safe to call from two threads.

    Args:
        stage: name, for errors.
        function: eager stage.
        capture: records a run of it.
    """

    def __init__(self, stage: str, function: Callable[..., Any], *, capture: Capture) -> None:
        self._stage, self._function, self._capture = stage, function, capture
        self._captured: dict[object, _Captured] = {}
        self._lock = threading.Lock()

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
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        constants = tuple(None if isinstance(leaf, Tensor) else leaf for leaf in leaves)
        key = (shape, constants, tuple((t.shape, t.dtype) for t in tensors))
        with self._lock:
            variant = self._captured.get(key)
            if variant is None:
                variant = self._record(leaves, shape)
                self._captured[key] = variant
            for static, tensor in zip(variant.inputs, tensors, strict=True):
                static.copy_(tensor)
            variant.replay()
            return pytree.tree_unflatten([out.clone() for out in variant.outputs], variant.shape)

    def _record(self, leaves: list[Any], shape: pytree.TreeSpec) -> _Captured:
        if len(self._captured) == MAX_SHAPES:
            raise PolicyFault(
                f"stage {self._stage} was called with {MAX_SHAPES + 1} different sets of shapes",
                allowed="fixed shapes",
                where="the parameter `backend` (eager takes any shape)",
            )
        static = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        args, kwargs = pytree.tree_unflatten(static, shape)
        want = [out.clone() for out in pytree.tree_leaves(self._function(*args, **kwargs))]
        replay, results = self._capture(lambda: self._function(*args, **kwargs))
        outputs, out_shape = pytree.tree_flatten(results)
        replay()
        for place, (have, eager) in enumerate(zip(outputs, want, strict=True)):
            self._require_equal(place, have, eager)
        inputs = tuple(leaf for leaf in static if isinstance(leaf, Tensor))
        return _Captured(inputs, tuple(outputs), out_shape, replay)

    def _require_equal(self, place: int, have: Tensor, eager: Tensor) -> None:
        off = float((have.float() - eager.float()).abs().max())
        allowed = GATE * max(float(eager.float().abs().max()), 1e-6)
        # Written so that a NaN fails as well.
        if not off <= allowed:
            raise PolicyFault(
                f"result {place} of the captured stage {self._stage} differs from the eager one by {off:.3g}",
                allowed=f"at most {allowed:.3g}",
                where="the parameter `backend` (eager), and a report with GPU, driver and torch version",
            )


class CudaGraphs:
    """Captures every stage on the current device; the graphs of one instance share their memory.

    Args:
        capture: records a run; None uses CUDA.
    """

    name = CUDA_GRAPH_NAME

    def __init__(self, *, capture: Capture | None = None) -> None:
        self._capture = capture or cuda_capture()

    def prepare(self, stage: str, function: F) -> F:
        """Return the stage as a `GraphedStage`."""
        return cast(F, GraphedStage(stage, function, capture=self._capture))


def cuda_capture() -> Capture:
    """Return a `Capture` that records CUDA graphs into one pool of memory.

    All stages replay on the default stream, one after another, so that they may share the pool: results are copied out
    before the next replay begins.
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
