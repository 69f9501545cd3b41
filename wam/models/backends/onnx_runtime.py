# SPDX-License-Identifier: Apache-2.0
"""Stages through ONNX Runtime: one native call for a stage, which gives up the GIL once.

An eager stage is hundreds of small operations, and Python holds the GIL between any two of them: beside a busy Python
thread (a simulator, a recorder, the other half) a step takes ten times as long. The graph of a stage has been exported
before (`onnx_export`); it is loaded with the policy's own weights, and judged against the eager stage before it is
used.

On a GPU the graph goes to ONNX Runtime's TensorRT provider where that is installed, else to its CUDA provider; tensors
are bound where they lie, and of an `EulerLoop` the graph is one step.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from wam.core.extras import remedy
from wam.models.backends.artefacts import REMEDY, Artefact, ArtefactStore, named_weights
from wam.models.backends.backend import ONNX_RUNTIME_NAME, Runner, StageUnavailable
from wam.models.backends.stage import EulerLoop, StageInputs, StageSpec

if TYPE_CHECKING:
    import onnxruntime

INTRA_OP_THREADS = 1
"""More threads cost more than they gain: a stage of a small policy lasts a millisecond, and the cores are wanted."""

Builder = Callable[[], None]
"""Exports every stage of the policy in a child process; raises `StageUnavailable` where it cannot."""


TENSORRT_PROVIDER, CUDA_PROVIDER, CPU_PROVIDER = (
    "TensorrtExecutionProvider",
    "CUDAExecutionProvider",
    "CPUExecutionProvider",
)

BFLOAT16 = 16
"""Number of the type in ONNX."""

_TYPES = {
    "tensor(float)": (torch.float32, 1),
    "tensor(float16)": (torch.float16, 10),
    "tensor(bfloat16)": (torch.bfloat16, BFLOAT16),
    "tensor(int32)": (torch.int32, 6),
    "tensor(int64)": (torch.int64, 7),
    "tensor(bool)": (torch.bool, 9),
}
"""Name of an argument's or a result's type -> PyTorch's type, number of the type in ONNX."""


def missing() -> str:
    """Return why ONNX Runtime cannot be used, with the remedy; "" where it can."""
    try:
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        return f"onnxruntime is not installed: {remedy('onnxruntime')}"
    return ""


def version() -> str:
    """Return the version of ONNX Runtime, without importing it; "" where it is not installed."""
    for package in ("onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(package)
    return ""


def gpu_missing() -> str:
    """Return why ONNX Runtime does not compute on a GPU, with the remedy; "" where it does."""
    import onnxruntime as ort

    have = ort.get_available_providers()
    if TENSORRT_PROVIDER in have or CUDA_PROVIDER in have:
        return ""
    return (
        f"onnxruntime has no provider for a GPU, it has {', '.join(have)}: "
        "pip install onnxruntime-gpu in place of onnxruntime"
    )


def providers(
    device: torch.device, *, dtype: torch.dtype, engines: Path | None
) -> list[tuple[str, dict[str, str]]]:
    """Return the providers of a session, best first, with their options.

    Args:
        device: where the stage computes.
        dtype: of its weights.
        engines: folder for the engines of this graph with these weights, which the provider's own cache does not tell
            apart; None keeps none.
    """
    import onnxruntime as ort

    if device.type == "cpu":
        return [(CPU_PROVIDER, {})]
    have, number = ort.get_available_providers(), {"device_id": str(device.index or 0)}
    chosen: list[tuple[str, dict[str, str]]] = []
    if TENSORRT_PROVIDER in have:
        options = {
            **number,
            "trt_fp16_enable": str(dtype == torch.float16),
            "trt_bf16_enable": str(dtype == torch.bfloat16),
            # The weights are given in memory, the graph only names them.
            "trt_load_user_initializer": "True",
        }
        if engines is not None:
            options |= {
                "trt_engine_cache_enable": "True",
                "trt_engine_cache_path": str(engines),
                "trt_timing_cache_enable": "True",
                "trt_timing_cache_path": str(engines.parent),
            }
        chosen.append((TENSORRT_PROVIDER, options))
    if CUDA_PROVIDER in have:
        chosen.append((CUDA_PROVIDER, number))
    return [*chosen, (CPU_PROVIDER, {})]


class OnnxRunner:
    """One exported stage. Safe to call from any thread.

    Args:
        stage: whose weights it has.
        inputs: of the shapes that it was exported for.
        artefact: the graph.
        device: where it computes.
        engines: folder for engines of the TensorRT provider; None keeps none.
    """

    def __init__(
        self,
        stage: StageSpec,
        inputs: StageInputs,
        artefact: Artefact,
        *,
        device: torch.device,
        engines: Path | None = None,
    ) -> None:
        assert isinstance(stage.module, nn.Module)
        self._stage, self._module, self._inputs, self._artefact = stage, stage.module, inputs, artefact
        self._device, self._engines = device, engines
        self._on_gpu = device.type != "cpu"
        self._constants: tuple[Tensor, ...] = ()
        self._held: tuple[Any, ...] = ()
        if isinstance(stage.module, EulerLoop) and not self._on_gpu:
            self._constants = (stage.module.deltas,)
        self._session: onnxruntime.InferenceSession | None = None
        self._names: tuple[str, ...] = ()

    def bind(self) -> None:
        """Load the graph with the stage's weights, and run it once.

        Raises:
            StageUnavailable: it does not load or run, or takes other inputs than the stage has.
        """
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = INTRA_OP_THREADS
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        own = named_weights(self._module)
        names = list(self._artefact.weights)
        # The session reads the weights where they are.
        arrays = [_as_array(own[self._artefact.weights[name]]) for name in names]
        kind = next(iter(own.values())).dtype if own else torch.float32
        try:
            values = [
                ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, number)
                if number == BFLOAT16
                else ort.OrtValue.ortvalue_from_numpy(array)
                for array, number in arrays
            ]
            options.add_external_initializers(names, values)
            if self._engines is not None:
                self._engines.mkdir(parents=True, exist_ok=True, mode=0o700)
            session = ort.InferenceSession(
                self._artefact.graph,
                options,
                providers=providers(self._device, dtype=kind, engines=self._engines),
            )
        except Exception as error:  # The binding's exceptions have no common base of their own.
            raise StageUnavailable(
                f"ONNX Runtime does not load its graph ({_first_line(error)}): "
                f"install the pinned onnxruntime, or {REMEDY}"
            ) from error
        given = (*self._inputs.tensors, *self._constants)
        shapes = [tuple(one.shape) for one in given]
        if self._on_gpu and isinstance(self._module, EulerLoop):
            shapes[1] = shapes[1][1:]
        taken = session.get_inputs()
        fits = len(taken) == len(shapes) and all(
            len(one.shape) == len(shape)
            and all(isinstance(a, str) or a == b for a, b in zip(one.shape, shape, strict=True))
            for one, shape in zip(taken, shapes, strict=True)
        )
        if not fits:
            raise StageUnavailable(
                f"its graph takes {[tuple(one.shape) for one in taken]}, the stage has {shapes}; {REMEDY}"
            )
        self._session, self._names = session, tuple(one.name for one in taken)
        self._held = (arrays, values)
        try:
            self.run(self._inputs.tensors)
        except StageUnavailable:
            raise
        except Exception as error:  # As above.
            raise StageUnavailable(
                f"ONNX Runtime does not run its graph ({_first_line(error)}): "
                f"install the pinned onnxruntime, {REMEDY}, or take backend eager"
            ) from error

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the results; nothing is copied in, and the results' memory is their own."""
        assert self._session is not None, "`bind` comes before `run`"
        if self._on_gpu:
            if isinstance(self._module, EulerLoop):
                return [self._integrated(self._module, tensors)]
            return self._bound(tensors)
        given = (*tensors, *self._constants)
        feed = {name: one.detach().numpy() for name, one in zip(self._names, given, strict=True)}
        results: list[Any] = self._session.run(None, feed)
        return [torch.from_numpy(result) for result in results]

    def _integrated(self, loop: EulerLoop, tensors: Sequence[Tensor]) -> Tensor:
        start, table, *fixed = tensors
        state = start.float().clone()
        for entry, move in zip(table, loop.moves, strict=True):
            (velocity,) = self._bound((state, entry, *fixed))
            state.add_(velocity.float(), alpha=move)
        return state

    def _bound(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Run on tensors where they lie."""
        assert self._session is not None
        given = [one.detach().contiguous() for one in tensors]
        where = given[0].device
        place = where.type, where.index or 0
        binding = self._session.io_binding()
        for name, one in zip(self._names, given, strict=True):
            binding.bind_input(name, *place, _number(one.dtype), tuple(one.shape), one.data_ptr())
        results = []
        for one in self._session.get_outputs():
            dtype, number = _result(one.type)
            result = torch.empty(tuple(one.shape), dtype=dtype, device=where)
            binding.bind_output(one.name, *place, number, tuple(one.shape), result.data_ptr())
            results.append(result)
        if where.type == "cuda":
            # ONNX Runtime works on a stream of its own.
            torch.cuda.current_stream(where).synchronize()
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return results


def _number(dtype: torch.dtype) -> int:
    for kind, number in _TYPES.values():
        if kind == dtype:
            return number
    raise StageUnavailable(f"its arguments of type {dtype} cannot be bound on a GPU; take another backend")


def _result(name: str) -> tuple[torch.dtype, int]:
    if name not in _TYPES:
        raise StageUnavailable(f"its results of type {name} cannot be bound on a GPU; take another backend")
    return _TYPES[name]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _as_array(tensor: Tensor) -> tuple[Any, int]:
    """Return a weight as a numpy array, and the number of its type; bfloat16 as what its bits are as integers."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy(), BFLOAT16
    return tensor.numpy(), 0


class OnnxRuntime:
    """The exported stages of one policy.

    Args:
        store: where they lie.
        builder: exports what is missing; None where nothing can be exported.
        device: where the policy computes.
        engines: folder for engines of the TensorRT provider; None keeps none.
    """

    name = ONNX_RUNTIME_NAME
    only_examples = True

    def __init__(
        self,
        store: ArtefactStore,
        *,
        builder: Builder | None = None,
        device: torch.device | str = "cpu",
        engines: Path | None = None,
    ) -> None:
        self._store, self._builder = store, builder
        self._device, self._engines = torch.device(device), engines
        self._loaded: dict[str, int] = {}
        self._artefacts: dict[tuple[str, object], Artefact] = {}

    def probe(self) -> str:
        """Return why ONNX Runtime cannot be used here, with the remedy."""
        return missing() or ("" if self._device.type == "cpu" else gpu_missing())

    def build(self, stage: StageSpec) -> None:
        """Export every stage of the policy, once.

        Raises:
            StageUnavailable: they cannot be exported.
        """
        builder, self._builder = self._builder, None
        self._loaded.pop(stage.name, None)
        if builder is not None:
            builder()

    def load(self, stage: StageSpec, inputs: StageInputs) -> Runner:
        """Return the exported stage for the next of its examples.

        Raises:
            StageUnavailable: there is none, or it is damaged, refused, or was exported from something else.
        """
        if not isinstance(stage.module, nn.Module):
            raise StageUnavailable("the stage is no module, which cannot be exported; take backend eager")
        if stage.chooses:
            raise StageUnavailable(
                "its results are choices, and the rounding of another runtime makes others: take backend eager for it, "
                f"or '{ONNX_RUNTIME_NAME} or auto' for all that can"
            )
        on_cpu = self._device.type == "cpu"
        if on_cpu and any(tensor.dtype == torch.bfloat16 for tensor in inputs.tensors):
            raise StageUnavailable(
                "ONNX Runtime does not compute in bfloat16 on a CPU; convert with float32, or take backend eager"
            )
        number = self._loaded.get(stage.name, 0)
        artefact = self._store.read(artefact_name(stage, number), stage.module)
        self._loaded[stage.name] = number + 1
        self._artefacts[stage.name, inputs.key] = artefact
        return OnnxRunner(stage, inputs, artefact, device=self._device, engines=self._engines_of(artefact))

    def _engines_of(self, artefact: Artefact) -> Path | None:
        if self._engines is None:
            return None
        own = hashlib.sha256(f"{artefact.digest} {artefact.parameters}".encode()).hexdigest()
        return self._engines / own[:16]

    def refused(self, stage: StageSpec, inputs: StageInputs, reason: str) -> bool:
        """Put the graph that was loaded for these inputs into quarantine."""
        artefact = self._artefacts.get((stage.name, inputs.key))
        return artefact is not None and self._store.refuse(artefact, reason)


def artefact_name(stage: StageSpec, number: int) -> str:
    """Return the name of the artefact for the stage's example of that number."""
    return f"{stage.name}.{number}"
