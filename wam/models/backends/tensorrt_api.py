# SPDX-License-Identifier: Apache-2.0
"""TensorRT's Python interface: which versions there are, what they have in common, and what they say of failures.

Versions 10 and 11 are supported. What 11 has removed (explicit batch, precision flags, contexts without memory) is not
used with 10 either: types come from the graph, which is always strongly typed.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import torch

from wam.core.extras import remedy
from wam.models.backends.backend import StageUnavailable
from wam.models.backends.gpu import GpuFacts

MAJORS = (10, 11)
OLDEST_CAPABILITY = (7, 5)
"""Of a GPU that these versions of TensorRT have kernels for."""

BFLOAT16_CAPABILITY = (8, 0)
INSTALL = remedy("tensorrt")

NEEDED = (
    "Builder",
    "BuilderFlag",
    "ExecutionContextAllocationStrategy",
    "OnnxParser",
    "OnnxParserRefitter",
    "Refitter",
    "Runtime",
    "TensorIOMode",
)


def load() -> Any:
    """Return TensorRT's module.

    Raises:
        ImportError: it is not installed, or its libraries are not.
    """
    return importlib.import_module("tensorrt")


def version() -> str:
    """Return the version of TensorRT; `missing` has said that there is one."""
    return str(load().__version__)


def missing() -> str:
    """Return why TensorRT cannot be used, with the remedy; "" where it can."""
    try:
        trt = load()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("tensorrt", "tensorrt_bindings"):
            raise
        return f"tensorrt is not installed: {INSTALL}"
    except ImportError as error:
        # The bindings are a package of their own, and load libnvinfer.
        return f"tensorrt has no libraries ({_first_line(error)}): {INSTALL}"
    found = str(getattr(trt, "__version__", "unknown"))
    major = found.partition(".")[0]
    if not major.isdigit() or int(major) not in MAJORS:
        return f"tensorrt {found} is installed, versions 10 and 11 are supported: {INSTALL}"
    if lacking := [name for name in NEEDED if not hasattr(trt, name)]:
        return f"tensorrt {found} has no {', '.join(lacking)} (a lean or dispatch runtime?): {INSTALL}"
    return ""


def unfit(facts: GpuFacts, *, precision: torch.dtype | None = None) -> str:
    """Return why a GPU does not run engines, with the remedy; "" where it does."""
    if facts.capability < OLDEST_CAPABILITY:
        return f"{facts} is too old for TensorRT, which needs 7.5: take backend cuda_graph or eager"
    if precision == torch.bfloat16 and facts.capability < BFLOAT16_CAPABILITY:
        return f"{facts} does not compute in bfloat16: wam build-engine --precision fp16"
    return ""


@cache
def _log_class(trt: Any) -> type[Any]:
    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps what went wrong, which is all that a failed call leaves behind."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            """Take a message."""
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(str(msg))

    return Log


def new_log(trt: Any) -> Any:
    """Return a logger that keeps errors; it has to live as long as what it is given to."""
    return _log_class(trt)()


def first_error(log: Any) -> str:
    """Return the first error that a logger has kept, on one line."""
    return _first_line(log.errors[0]) if log.errors else "TensorRT gives no reason"


def made(kind: Any, *arguments: Any, log: Any) -> Any:
    """Return a new object of TensorRT.

    Raises:
        StageUnavailable: there is none, as without a driver.
    """
    try:
        return kind(*arguments)
    except TypeError as error:
        # What the bindings make of a null pointer.
        why = first_error(log) if log.errors else _first_line(error)
        raise StageUnavailable(
            f"TensorRT does not start ({why}): nvidia-smi shows whether driver and GPU work"
        ) from error


def loaded_engine(trt: Any, data: bytes, *, what: str, remedy: str, log: Any) -> tuple[Any, Any]:
    """Return an engine and the runtime that it needs.

    Raises:
        StageUnavailable: this version, or this GPU, does not load it.
    """
    runtime = made(trt.Runtime, log, log=log)
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise StageUnavailable(f"TensorRT does not load {what} ({first_error(log)}); {remedy}")
    return engine, runtime


def torch_type(trt: Any, kind: Any) -> torch.dtype:
    """Return the type of an engine's tensor."""
    types: dict[Any, torch.dtype] = {
        trt.DataType.FLOAT: torch.float32,
        trt.DataType.HALF: torch.float16,
        trt.DataType.BF16: torch.bfloat16,
        trt.DataType.INT32: torch.int32,
        trt.DataType.INT64: torch.int64,
        trt.DataType.BOOL: torch.bool,
        trt.DataType.UINT8: torch.uint8,
        trt.DataType.INT8: torch.int8,
    }
    return types[kind]


def _first_line(text: object) -> str:
    return (str(text).strip().splitlines() or ["no reason given"])[0]
