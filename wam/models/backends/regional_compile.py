# SPDX-License-Identifier: Apache-2.0
"""The backend `compile`: the repeated parts of a stage by `torch.compile`, under a CUDA graph of our own.

A stage names the methods of its layers that are worth compiling (`StageSpec.regions`); each is compiled once and run by
all layers that have it, which takes a third of the time of compiling the stage as a whole. Compiling happens while a
policy is loaded. Afterwards nothing is compiled any more: what would need it runs as it is written.

A twin of the stage's module, which shares its weights, is what is changed; the stage as it is written stays what the
gate compares with.
"""

from __future__ import annotations

import copy
import functools
import os
import shutil
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from wam.models.backends.backend import COMPILE_NAME, Runner, StageUnavailable
from wam.models.backends.compile_cache import CompileCache
from wam.models.backends.gpu import CudaGpu, Gpu
from wam.models.backends.stage import StageInputs, StageSlices, StageSpec
from wam.models.kernels import availability

OLDEST = (7, 0)
"""Compute capability that the compiler's own kernels need."""
MODE = "max-autotune-no-cudagraphs"
"""The compiler's own graphs are not safe between threads, and overwrite the results of the run before."""
INDUCTOR = "inductor"
WARM_UP_RUNS = 2

Region = Callable[..., Any]


class _Stance:
    """Whether functions may be compiled, for the whole process: many run beside each other, one compiles alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._runs = 0
        self._compiling = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let nothing be compiled: what would need it raises."""
        with self._changed:
            self._changed.wait_for(lambda: not self._compiling)
            if self._runs == 0:
                torch.compiler.set_stance("fail_on_recompile")
            self._runs += 1
        try:
            yield
        finally:
            with self._changed:
                self._runs -= 1
                if self._runs == 0:
                    torch.compiler.set_stance("default")
                    self._changed.notify_all()

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """Wait until nothing runs, and let nothing run meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: not self._compiling and self._runs == 0)
            self._compiling = True
        try:
            yield
        finally:
            with self._changed:
                self._compiling = False
                self._changed.notify_all()


_stance = _Stance()


class CompiledRunner:
    """Runs one stage, its regions compiled, for one set of shapes. Safe to call from any thread.

    Args:
        stage: as it is written.
        twin: its module with compiled regions.
        slices: its slices, likewise.
        inputs: of the stage.
        cache: takes what was compiled; None keeps nothing.

    Attributes:
        left: runs that would have needed compiling, and ran as the stage is written.
    """

    def __init__(
        self,
        stage: StageSpec,
        twin: nn.Module,
        slices: StageSlices | None,
        inputs: StageInputs,
        cache: CompileCache | None,
    ) -> None:
        self._stage, self._twin, self._inputs, self._cache = stage, twin, inputs, cache
        self.slices = slices
        self.left = 0

    def bind(self) -> None:
        """Compile, from the cache where it has it.

        Raises:
            StageUnavailable: it cannot be compiled here.
        """
        args, kwargs = self._inputs.arguments()
        try:
            with _stance.compiling():
                if self._cache is not None:
                    self._cache.load(self._stage.name)
                for _ in range(WARM_UP_RUNS):
                    self._twin(*args, **kwargs)
                if self._cache is not None:
                    self._cache.save(self._stage.name)
        except torch.OutOfMemoryError as error:
            raise StageUnavailable(
                f"the device has no memory left to compile it ({_line(error)}): free some, or take backend cuda_graph"
            ) from error
        except Exception as error:
            # Tracer, compiler, C++ compiler and driver have no class of their errors in common.
            raise StageUnavailable(
                f"it does not compile ({_line(error)}): take backend cuda_graph or eager for it, and report it with "
                "the versions of torch and of the compiler"
            ) from error

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the results."""
        args, kwargs = self._inputs.arguments(tensors)
        try:
            with _stance.running():
                results: list[Tensor] = pytree.tree_leaves(self._twin(*args, **kwargs))
        except RuntimeError as error:
            if "fail_on_recompile" not in str(error):
                raise
            self.left += 1
            results = pytree.tree_leaves(self._stage.module(*args, **kwargs))
        return results


class RegionalCompile:
    """Compiles the regions of stages.

    Args:
        device: where the policy computes.
        cache: of what was compiled before; None compiles anew at every start.
        gpu: the device, where it is one; None takes it through PyTorch.
        compiler: as `torch.compile` takes its `backend`.
    """

    name = COMPILE_NAME
    only_examples = True

    def __init__(
        self,
        device: torch.device | str,
        *,
        cache: CompileCache | None = None,
        gpu: Gpu | None = None,
        compiler: str | Callable[..., Any] = INDUCTOR,
    ) -> None:
        self._device = torch.device(device)
        self._cache, self._compiler = cache, compiler
        self._gpu = gpu or (CudaGpu(self._device) if self._device.type == "cuda" else None)
        self._twins: dict[str, tuple[nn.Module, StageSlices | None]] = {}

    def probe(self) -> str:
        """Return why nothing can be compiled here, with the remedy."""
        if self._compiler != INDUCTOR:
            return ""
        if self._gpu is not None:
            if reason := availability.unavailable_because(self._gpu.device):
                return reason
            if (facts := self._gpu.facts()).capability < OLDEST:
                oldest = ".".join(map(str, OLDEST))
                return f"the GPU is too old: {facts}, the compiler needs {oldest}; take backend cuda_graph"
        if not any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "g++", "clang++")):
            return "there is no C++ compiler: sudo apt install g++, or set CXX; or take backend eager"
        return ""

    def build(self, stage: StageSpec) -> None:
        """Nothing to make: stages are compiled when they are loaded."""

    def load(self, stage: StageSpec, inputs: StageInputs) -> Runner:
        """Return the stage with its regions, which are compiled when it is bound.

        Raises:
            StageUnavailable: it has none.
        """
        if not stage.regions or not isinstance(stage.module, nn.Module):
            raise StageUnavailable(
                "it has no regions to compile: take backend cuda_graph or eager for it, or 'compile or auto' for all "
                "that have none"
            )
        if stage.name not in self._twins:
            self._twins[stage.name] = self._twin(stage, stage.module)
        return CompiledRunner(stage, *self._twins[stage.name], inputs, self._cache)

    def refused(self, stage: StageSpec, inputs: StageInputs, reason: str) -> bool:
        """Forget what was compiled, so that the next start compiles it anew."""
        if self._cache is not None:
            self._cache.forget(stage.name)
        return False

    def _twin(self, stage: StageSpec, module: nn.Module) -> tuple[nn.Module, StageSlices | None]:
        """Return a stage's module and slices with compiled regions, and the weights of those that are written."""
        slices = stage.slices.modules if stage.slices is not None else ()
        written = (module, *slices)
        parts = [part for one in written for part in _modules(one)]
        shared = [tensor for part in parts for tensor in (*part.parameters(False), *part.buffers(False))]
        twins = copy.deepcopy(written, {id(tensor): tensor for tensor in shared})
        # A function of its own for each stage: the compiler keeps few variants of one.
        compiled = {region.__name__: self._compiled(_fresh(region)) for region in stage.regions}
        for part in {id(part): part for one in twins for part in _modules(one)}.values():
            for region in stage.regions:
                if getattr(type(part), region.__name__, None) is region:
                    setattr(part, region.__name__, functools.partial(compiled[region.__name__], part))
        turns = stage.slices.turns if stage.slices is not None else None
        return twins[0], None if turns is None else StageSlices(twins[1:], turns)

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        mode = MODE if self._compiler == INDUCTOR else None
        made: Callable[..., Any] = torch.compile(
            function, fullgraph=True, dynamic=False, backend=self._compiler, mode=mode
        )
        return made


def _modules(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a module and all below it, those included that are held without being registered."""
    waiting = [module]
    met: set[int] = set()
    while waiting:
        for part in waiting.pop().modules():
            if id(part) in met:
                continue
            met.add(id(part))
            yield part
            waiting += [value for value in vars(part).values() if isinstance(value, nn.Module)]


def _fresh(function: Region) -> types.FunctionType:
    """Return a copy of a function with code of its own."""
    assert isinstance(function, types.FunctionType)
    made = types.FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    made.__kwdefaults__, made.__qualname__ = function.__kwdefaults__, function.__qualname__
    return made


def _line(error: Exception) -> str:
    # What a compiler raised is wrapped in a page of advice.
    error = getattr(error, "inner_exception", error)
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
