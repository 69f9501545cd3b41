# SPDX-License-Identifier: Apache-2.0
"""Stages as TensorRT engines: loaded, bound to the buffers that they read and write, and enqueued.

An engine reads the caller's tensors where they are and writes into results that are new for every run, so nothing is
copied. Memory to work in is shared by the engines of one part of the policy, which run one after another. Of an
`EulerLoop` there is an engine of one step; captured as a CUDA graph, all steps are one launch again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from wam.core.errors import PolicyFault
from wam.models.backends import tensorrt_api
from wam.models.backends.artefacts import weights_digest
from wam.models.backends.backend import TENSORRT_NAME, Runner, StageUnavailable
from wam.models.backends.engines import REMEDY, EngineRecord, EngineStore
from wam.models.backends.gpu import Gpu, Lane, aligned, aligned_empty
from wam.models.backends.onnx_runtime import artefact_name
from wam.models.backends.padding import PaddedRunner, padded
from wam.models.backends.stage import EulerLoop, PolicyPart, StageInputs, StageSpec

SPARE_MEMORY = 256 << 20
"""Left free for what runs beside the engines [bytes]."""


class Workspace:
    """Memory and order of work of the engines of one part, and the lock that lets one of them be enqueued at a time."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.lane: Lane = gpu.lane()
        self.lock = threading.RLock()
        self._memory: Tensor | None = None

    def memory(self, size: int) -> Tensor:
        """Return at least `size` bytes; contexts that were given a smaller piece keep it."""
        if self._memory is None or self._memory.numel() < size:
            shape = torch.Size([max(size, 1)])
            self._memory = aligned_empty(shape, torch.uint8, self.gpu.device)
        return self._memory


class LoadedEngine:
    """An engine in memory, with what it needs; several contexts may run it.

    Args:
        engine: TensorRT's.
        runtime: that loaded it.
        log: of both.
    """

    def __init__(self, engine: Any, runtime: Any, log: Any) -> None:
        self.engine, self.runtime, self.log = engine, runtime, log


class TensorRtRunner:
    """One engine. Safe to call from any thread.

    Args:
        stage: what it computes.
        inputs: of the shapes that it was built for.
        path: of the engine.
        record: what is known of it.
        store: that reads it.
        workspace: of the stage's part.
        engines: those in memory, by path: sets of shapes that share an engine hold its weights once.
    """

    def __init__(
        self,
        stage: StageSpec,
        inputs: StageInputs,
        *,
        path: Path,
        record: EngineRecord,
        store: EngineStore,
        workspace: Workspace,
        engines: WeakValueDictionary[Path, LoadedEngine],
    ) -> None:
        self._stage, self._inputs, self._engines = stage, inputs, engines
        self._path, self._record, self._store, self._workspace = path, record, store, workspace
        self._context: Any = None
        # A context uses its engine, logger and memory, but keeps none of them.
        self._held: tuple[Any, ...] = ()
        self._log: Any = None
        self._takes: tuple[torch.dtype, ...] = ()
        self._gives: tuple[tuple[torch.Size, torch.dtype], ...] = ()
        self._wanted: tuple[torch.dtype, ...] = ()

    @property
    def precision(self) -> torch.dtype:
        """What the engine computes in."""
        kind: torch.dtype = getattr(torch, self._record.key.precision)
        return kind

    def bind(self) -> None:
        """Load the engine and give it memory.

        Raises:
            StageUnavailable: it is damaged, of another version or GPU, of other shapes, or too large.
        """
        gpu = self._workspace.gpu
        loaded = self._engines.get(self._path)
        size = 0 if loaded is not None else self._record.size
        need, free = size + self._record.memory + SPARE_MEMORY, gpu.free_memory()
        if need > free:
            raise StageUnavailable(
                f"its engine needs {need / 1e9:.1f} GB of the GPU, {free / 1e9:.1f} GB are free: "
                "leave this stage to cuda_graph, or take a GPU with more memory"
            )
        trt = tensorrt_api.load()
        with gpu.chosen():
            if loaded is None:
                loaded = self._engines[self._path] = self._load(trt)
            engine, log = loaded.engine, loaded.log
            context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
            if context is None:
                raise StageUnavailable(
                    f"TensorRT does not run {self._path} ({tensorrt_api.first_error(log)}): "
                    "free memory of the GPU, or take backend cuda_graph"
                )
            self._meet(trt, engine)
            try:
                memory = self._workspace.memory(int(engine.device_memory_size_v2))
            except torch.OutOfMemoryError as error:
                raise StageUnavailable(
                    f"the GPU has no memory left for its engine to work in ({str(error).splitlines()[0]}): "
                    "free some, or take backend cuda_graph"
                ) from error
            context.set_device_memory(memory.data_ptr(), memory.numel())
        self._context, self._held, self._log = context, (loaded, memory), log

    def _load(self, trt: Any) -> LoadedEngine:
        log = tensorrt_api.new_log(trt)
        data = self._store.read(self._path, self._record)
        engine, runtime = tensorrt_api.loaded_engine(trt, data, what=str(self._path), remedy=REMEDY, log=log)
        return LoadedEngine(engine, runtime, log)

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the results.

        Raises:
            PolicyFault: TensorRT did not run it.
        """
        assert self._context is not None, "`bind` comes before `run`"
        workspace, module = self._workspace, self._stage.module
        # Before the lane is entered: memory of the caller's stream, which follows the lane's work.
        given = tuple(aligned(one.to(kind)) for one, kind in zip(tensors, self._takes, strict=True))
        results = [aligned_empty(*size, workspace.gpu.device) for size in self._gives]
        with workspace.lock, workspace.gpu.chosen(), workspace.lane.entered() as stream:
            if isinstance(module, EulerLoop):
                return [self._integrated(module, tensors[0], given[1:], results, stream)]
            self._enqueue(given, results, stream)
            return [one.to(kind) for one, kind in zip(results, self._wanted, strict=True)]

    def _integrated(
        self,
        loop: EulerLoop,
        start: Tensor,
        given: tuple[Tensor, ...],
        results: list[Tensor],
        stream: int,
    ) -> Tensor:
        table, *fixed = given
        # In float32 whatever the engine computes in: rounding would add up from step to step.
        state = aligned_empty(start.shape, torch.float32, start.device).copy_(start)
        for entry, move in zip(table, loop.moves, strict=True):
            x = aligned(state.to(self._takes[0]))
            self._enqueue((x, aligned(entry), *fixed), results, stream)
            state.add_(results[0].to(torch.float32), alpha=move)
        return state

    def _enqueue(self, given: Sequence[Tensor], results: Sequence[Tensor], stream: int) -> None:
        names = (*self._record.inputs, *self._record.results)
        for name, tensor in zip(names, (*given, *results), strict=True):
            if not self._context.set_tensor_address(name, tensor.data_ptr()):
                raise self._fault(f"does not take an address for {name}")
        if not self._context.execute_async_v3(stream):
            raise self._fault("did not run")

    def _fault(self, what: str) -> PolicyFault:
        return PolicyFault(
            f"the engine of stage {self._stage.name} {what} ({tensorrt_api.first_error(self._log)})",
            where=f"the parameter `backend` (auto, {self._stage.name}: cuda_graph)",
        )

    def _meet(self, trt: Any, engine: Any) -> None:
        """Compare the engine's inputs and results with the stage's."""
        record, tensors = self._record, self._inputs.tensors
        names = {engine.get_tensor_name(i) for i in range(engine.num_io_tensors)}
        shapes = [tuple(one.shape) for one in tensors]
        wanted = self._stage.outputs(self._inputs).sizes
        if isinstance(self._stage.module, EulerLoop):
            shapes[1] = shapes[1][1:]
        fits = names == {*record.inputs, *record.results} and len(record.inputs) == len(shapes)
        fits = fits and len(record.results) == len(wanted)
        fits = fits and all(
            engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            and tuple(engine.get_tensor_shape(name)) == shape
            for name, shape in zip(record.inputs, shapes, strict=True)
        )
        fits = fits and all(
            tuple(engine.get_tensor_shape(name)) == tuple(size)
            for name, (size, _) in zip(record.results, wanted, strict=True)
        )
        if not fits:
            raise StageUnavailable(f"{self._path} takes or gives other shapes than the stage; {REMEDY}")
        self._takes = tuple(
            tensorrt_api.torch_type(trt, engine.get_tensor_dtype(name)) for name in record.inputs
        )
        self._gives = tuple(
            (
                torch.Size(engine.get_tensor_shape(name)),
                tensorrt_api.torch_type(trt, engine.get_tensor_dtype(name)),
            )
            for name in record.results
        )
        self._wanted = tuple(kind for _, kind in wanted)


class TensorRt:
    """The engines of one policy on one GPU. It never builds: that takes minutes, and belongs to `wam build-engine`.

    Args:
        store: returns where the engines lie; called where TensorRT is known to be there.
        gpu: where they run.
    """

    name = TENSORRT_NAME
    only_examples = True

    def __init__(self, store: Callable[[], EngineStore], *, gpu: Gpu) -> None:
        self._store, self._gpu = store, gpu
        self._digests: dict[str, str] = {}
        self._workspaces: dict[PolicyPart, Workspace] = {}
        self._sets: dict[str, dict[object, int]] = {}
        self._engines: WeakValueDictionary[Path, LoadedEngine] = WeakValueDictionary()
        self._records: dict[tuple[str, object], EngineRecord] = {}

    def probe(self) -> str:
        """Return why TensorRT cannot be used here, with the remedy."""
        return tensorrt_api.missing() or tensorrt_api.unfit(self._gpu.facts())

    def build(self, stage: StageSpec) -> None:
        """Begin again with the stage's first example; nothing is built."""
        self._sets.pop(stage.name, None)

    def load(self, stage: StageSpec, inputs: StageInputs) -> Runner:
        """Return the engine for the next of the stage's examples.

        Raises:
            StageUnavailable: there is none, or it is of another policy, version or GPU, or was refused.
        """
        if not isinstance(stage.module, nn.Module):
            raise StageUnavailable(
                "the stage is no module, which cannot be compiled; take backend cuda_graph"
            )
        # An engine of the padded stage serves several sets of shapes.
        given = stage.padding.pad(inputs) if stage.padding is not None else inputs
        sets = self._sets.setdefault(stage.name, {})
        number = sets.get(given.key, len(sets))
        if stage.name not in self._digests:
            self._digests[stage.name] = weights_digest(stage.module)
        store = self._store()
        path, record = store.find(artefact_name(stage, number), parameters=self._digests[stage.name])
        if reason := tensorrt_api.unfit(self._gpu.facts(), precision=getattr(torch, record.key.precision)):
            raise StageUnavailable(reason)
        sets[given.key] = number
        self._records[stage.name, inputs.key] = record
        if stage.part not in self._workspaces:
            self._workspaces[stage.part] = Workspace(self._gpu)
        workspace = self._workspaces[stage.part]
        runner = TensorRtRunner(
            padded(stage),
            given,
            path=path,
            record=record,
            store=store,
            workspace=workspace,
            engines=self._engines,
        )
        return runner if stage.padding is None else PaddedRunner(runner, inputs, stage.padding)

    def refused(self, stage: StageSpec, inputs: StageInputs, reason: str) -> bool:
        """Put the engine that was loaded for these inputs into quarantine."""
        record = self._records.get((stage.name, inputs.key))
        return record is not None and self._store().refuse(record.sha256, reason)
