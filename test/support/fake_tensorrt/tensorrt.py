# SPDX-License-Identifier: Apache-2.0
"""TensorRT without a GPU: the documented rules of its Python interface, on ONNX Runtime and memory of the CPU.

What a rule forbids fails as it does there: None or False and a message for the logger, where the real library would
write to memory that is not its own. Environment: FAKE_TENSORRT_VERSION (10.16.1.11, or 11.4.0.106, which has fewer
names), FAKE_TENSORRT_GPU (plans and timings of another GPU are not taken), FAKE_TENSORRT_BUILD ("none": a build fails,
"crash": it ends the process).
`test/models/backends/test_tensorrt_bindings.py` compares the names and signatures with the official bindings.
"""

from __future__ import annotations

import ctypes
import enum
import os
import weakref
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from fake_tensorrt_plan import Parsed, pack, timings, unpack
from onnx import TensorProto, numpy_helper

__version__ = os.environ.get("FAKE_TENSORRT_VERSION", "10.16.1.11")
_MAJOR = int(__version__.partition(".")[0])
ALIGNMENT = 256
WIDEST_HEAD = 256
MEMORY_PER_ENGINE = 4096


def _gpu() -> str:
    return os.environ.get("FAKE_TENSORRT_GPU", "Fake GPU")


class _Severity(enum.Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = _Severity
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = _Severity

    def __init__(self) -> None:
        self._made = True

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class Logger(ILogger):
    def __init__(self, min_severity: Any = _Severity.WARNING) -> None:
        super().__init__()
        self.min_severity = min_severity

    def log(self, severity: Any, msg: str) -> None:
        if severity.value <= self.min_severity.value:
            print(msg)


def _logger(logger: object) -> ILogger:
    if not isinstance(logger, ILogger) or not getattr(logger, "_made", False):
        raise TypeError("incompatible constructor arguments: a logger whose base was initialised is needed")
    return logger


_FLAGS_10 = {"EXPLICIT_BATCH": 0} if _MAJOR < 11 else {}
NetworkDefinitionCreationFlag = enum.IntEnum(
    "NetworkDefinitionCreationFlag", {**_FLAGS_10, "STRONGLY_TYPED": 1}
)
BuilderFlag = enum.IntEnum(
    "BuilderFlag", {**({"FP16": 0, "BF16": 1} if _MAJOR < 11 else {}), "REFIT": 5, "TF32": 8}
)


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class DataType(enum.Enum):
    FLOAT = TensorProto.FLOAT
    HALF = TensorProto.FLOAT16
    BF16 = TensorProto.BFLOAT16
    INT8 = TensorProto.INT8
    INT32 = TensorProto.INT32
    INT64 = TensorProto.INT64
    BOOL = TensorProto.BOOL
    UINT8 = TensorProto.UINT8


class IHostMemory(bytearray):
    """Bytes of the library; what is used of them is the buffer protocol."""

    @property
    def nbytes(self) -> int:
        return len(self)


class ITensor:
    def __init__(self, value: Any) -> None:
        self.name = value.name
        self.shape = tuple(
            one.dim_value if one.HasField("dim_value") else -1 for one in value.type.tensor_type.shape.dim
        )
        self.dtype = DataType(value.type.tensor_type.elem_type)


class INetworkDefinition:
    def __init__(self) -> None:
        self._flags = 0
        self._model: onnx.ModelProto | None = None

    @property
    def num_inputs(self) -> int:
        return len(self._model.graph.input) if self._model else 0

    def get_input(self, index: int) -> ITensor:
        assert self._model is not None
        return ITensor(self._model.graph.input[index])


class ParserError:
    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text


class _Errors:
    def __init__(self) -> None:
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def _read(self, path: str) -> onnx.ModelProto | None:
        """Weights are looked for beside the file."""
        try:
            return onnx.load(path)
        except Exception as error:
            self._errors.append(ParserError(f"Failed to parse {path}: {error}"))
            return None


class OnnxParser(_Errors):
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        super().__init__()
        self._network, self._logger = network, _logger(logger)

    def parse_from_file(self, model: str) -> bool:
        read = self._read(model)
        if read is None:
            return False
        if unknown := [node.op_type for node in read.graph.node if node.op_type.startswith("Unknown")]:
            self._errors.append(ParserError(f"No importer registered for op: {unknown[0]}"))
            return False
        self._network._model = read
        return True


class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, tuple[Any, Any, Any]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        if not len(min) == len(opt) == len(max) or any(
            not a <= b <= c for a, b, c in zip(min, opt, max, strict=True)
        ):
            raise ValueError("min <= opt <= max does not hold")
        self._shapes[input] = (tuple(min), tuple(opt), tuple(max))


class ITimingCache:
    def __init__(self, data: bytes = b"") -> None:
        self._gpu = timings(data) or _gpu()

    def serialize(self) -> IHostMemory:
        return IHostMemory(b"timings " + self._gpu.encode())


class IBuilderConfig:
    def __init__(self) -> None:
        self._flags = {BuilderFlag.TF32}
        self._level = 3
        self._profiles: list[IOptimizationProfile] = []
        self._cache: weakref.ref[ITimingCache] | None = None

    @property
    def builder_optimization_level(self) -> int:
        return self._level

    @builder_optimization_level.setter
    def builder_optimization_level(self, level: int) -> None:
        # The real one logs an error and keeps what it had.
        self._level = level if 0 <= level <= 5 else self._level

    def set_flag(self, flag: Any) -> None:
        self._flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag)

    def get_flag(self, flag: Any) -> bool:
        return flag in self._flags

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: Any) -> ITimingCache | None:
        data = bytes(memoryview(serialized_timing_cache))
        return None if data and timings(data) is None else ITimingCache(data)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if cache._gpu != _gpu() and not ignore_mismatch:
            return False
        # The caller keeps it alive until the engine is built.
        self._cache = weakref.ref(cache)
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache() if self._cache else None


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self._logger = _logger(logger)

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        network = INetworkDefinition()
        network._flags = flags
        return network

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None:
        if os.environ.get("FAKE_TENSORRT_BUILD") == "crash":
            os.abort()
        if fault := self._fault(network, config):
            self._logger.log(ILogger.ERROR, fault)
            return None
        assert network._model is not None
        settings = {
            "refit": BuilderFlag.REFIT in config._flags,
            "tf32": BuilderFlag.TF32 in config._flags,
            "level": config._level,
        }
        return IHostMemory(pack(network._model, version=__version__, gpu=_gpu(), settings=settings))

    def _fault(self, network: INetworkDefinition, config: IBuilderConfig) -> str:
        model = network._model
        if os.environ.get("FAKE_TENSORRT_BUILD") == "none":
            return "Could not find any implementation for node {ForeignNode}: out of memory"
        if model is None:
            return "Network has no layers"
        if config._cache is not None and config._cache() is None:
            return "the timing cache was destroyed before the build"
        typed = network._flags & (1 << int(NetworkDefinitionCreationFlag.STRONGLY_TYPED)) or _MAJOR >= 11
        halves = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
        if not typed and any(one.data_type in halves for one in model.graph.initializer):
            return "a weakly typed network computes in float32"
        profile = config._profiles[0]._shapes if config._profiles else {}
        for i in range(network.num_inputs):
            tensor = network.get_input(i)
            if -1 in tensor.shape and tensor.name not in profile:
                return f"{tensor.name}: dynamic shape, but no optimization profile has been defined"
        widths = {one.name: one.type.tensor_type.shape.dim for one in model.graph.value_info}
        for node in model.graph.node:
            dims = widths.get(node.input[0]) if node.op_type == "Attention" else None
            if dims and dims[-1].dim_value > WIDEST_HEAD:
                return f"no implementation for attention {node.name} of width {dims[-1].dim_value}"
        return ""


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = _logger(logger)

    def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
        try:
            parsed = unpack(bytes(memoryview(serialized_engine)))
        except ValueError as error:
            self._logger.log(ILogger.ERROR, f"IRuntime::deserializeCudaEngine: {error}")
            return None
        for what, have, want in (
            ("version", parsed.version, __version__),
            ("device", parsed.gpu, _gpu()),
        ):
            if have != want:
                self._logger.log(
                    ILogger.ERROR, f"The engine plan file was made for {what} {have}, not {want}"
                )
                return None
        return ICudaEngine(parsed, self._logger)


class ICudaEngine:
    def __init__(self, parsed: Parsed, logger: ILogger) -> None:
        self._parsed, self._logger = parsed, logger
        self._session: ort.InferenceSession | None = None

    def _tensors(self) -> list[tuple[ITensor, TensorIOMode]]:
        graph = self._parsed.model.graph
        return [
            *((ITensor(one), TensorIOMode.OUTPUT) for one in graph.output),
            *((ITensor(one), TensorIOMode.INPUT) for one in graph.input),
        ]

    def _named(self, name: str) -> tuple[ITensor, TensorIOMode]:
        return next(one for one in self._tensors() if one[0].name == name)

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors())

    @property
    def refittable(self) -> bool:
        return bool(self._parsed.settings["refit"])

    @property
    def device_memory_size_v2(self) -> int:
        return MEMORY_PER_ENGINE

    def get_tensor_name(self, index: int) -> str:
        return str(self._tensors()[index][0].name)

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self._named(name)[1]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._named(name)[0].shape

    def get_tensor_dtype(self, name: str) -> DataType:
        return self._named(name)[0].dtype

    def create_execution_context(
        self, strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC
    ) -> IExecutionContext:
        context = IExecutionContext()
        context._engine, context._strategy = self, strategy
        return context

    def serialize(self) -> IHostMemory:
        one = self._parsed
        return IHostMemory(pack(one.model, version=one.version, gpu=one.gpu, settings=one.settings))

    def _runs(self) -> ort.InferenceSession:
        if self._session is None:
            options = ort.SessionOptions()
            options.log_severity_level = 3
            options.intra_op_num_threads = 1
            self._session = ort.InferenceSession(
                self._parsed.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        return self._session


_working: set[int] = set()
"""Addresses of memory that a context works in at this moment."""


class IExecutionContext:
    _engine: ICudaEngine
    _strategy: ExecutionContextAllocationStrategy

    def __init__(self) -> None:
        self._addresses: dict[str, int] = {}
        self._memory = (0, 0)

    def _error(self, text: str) -> bool:
        self._engine._logger.log(ILogger.ERROR, f"IExecutionContext: {text}")
        return False

    def set_device_memory(self, memory: int, size: int) -> None:
        self._memory = (memory, size)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in {one.name for one, _ in self._engine._tensors()}:
            return self._error(f"{name} is no input or output tensor")
        if memory % ALIGNMENT:
            return self._error(f"the address of {name} is not aligned to {ALIGNMENT} bytes")
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        tensors = self._engine._tensors()
        if missing := [one.name for one, _ in tensors if not self._addresses.get(one.name)]:
            return self._error(f"no address is set for {', '.join(missing)}")
        memory, size = self._memory
        if self._strategy is ExecutionContextAllocationStrategy.USER_MANAGED:
            if not memory or memory % ALIGNMENT or size < self._engine.device_memory_size_v2:
                return self._error("the device memory is missing, too small or not aligned")
            if memory in _working:
                return self._error("another context works in the same memory")
        if not stream_handle:
            self._engine._logger.log(ILogger.WARNING, "Using default stream in enqueueV3()")
        _working.add(memory)
        try:
            feed = {
                one.name: _view(one, self._addresses[one.name]).copy()
                for one, mode in tensors
                if mode is TensorIOMode.INPUT
            }
            gives = [one for one, mode in tensors if mode is TensorIOMode.OUTPUT]
            results = self._engine._runs().run([one.name for one in gives], feed)
            for one, result in zip(gives, results, strict=True):
                _view(one, self._addresses[one.name])[...] = result
        finally:
            _working.discard(memory)
        return True


def _view(tensor: ITensor, address: int) -> Any:
    """Return memory at an address as an array."""
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.dtype.value)
    size = int(np.prod(tensor.shape)) * kind.itemsize
    raw = (ctypes.c_uint8 * size).from_address(address)
    return np.frombuffer(raw, dtype=kind).reshape(tensor.shape)


class Weights:
    def __init__(self, a: Any) -> None:
        self._array = np.asarray(a)

    @property
    def size(self) -> int:
        return int(self._array.size)


class Refitter:
    def __init__(self, engine: ICudaEngine, logger: ILogger) -> None:
        if not engine.refittable:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._engine, self._logger = engine, _logger(logger)
        self._new: dict[str, Any] = {}

    def _own(self) -> dict[str, Any]:
        return {one.name: one for one in self._engine._parsed.model.graph.initializer}

    def get_all_weights(self) -> list[str]:
        return list(self._own())

    def get_missing_weights(self) -> list[str]:
        # Weights that were combined with a given one have to be given too; here, all are.
        return [name for name in self._own() if name not in self._new] if self._new else []

    def set_named_weights(self, name: str, weights: Any) -> bool:
        own = self._own().get(name)
        array = weights._array if isinstance(weights, Weights) else np.asarray(weights)
        if own is None or array.size != np.prod(own.dims) or array.dtype != numpy_helper.to_array(own).dtype:
            return False
        self._new[name] = array
        return True

    def refit_cuda_engine(self) -> bool:
        if self.get_missing_weights():
            return False
        for name, own in self._own().items():
            if name in self._new:
                own.CopyFrom(numpy_helper.from_array(self._new[name].reshape(tuple(own.dims)), name))
        self._engine._session = None
        return True


class OnnxParserRefitter(_Errors):
    def __init__(self, refitter: Refitter, logger: ILogger) -> None:
        super().__init__()
        self._refitter, self._logger = refitter, _logger(logger)

    def refit_from_file(self, model: str) -> bool:
        read = self._read(model)
        if read is None:
            return False
        for one in read.graph.initializer:
            if not self._refitter.set_named_weights(one.name, Weights(numpy_helper.to_array(one))):
                self._errors.append(ParserError(f"weights {one.name} do not fit the engine"))
                return False
        return True


__all__ = [
    name for name in dir() if name[0].isupper() and name not in ("Any", "Parsed", "Path", "TensorProto")
]
