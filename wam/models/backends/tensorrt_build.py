# SPDX-License-Identifier: Apache-2.0
"""Builds one engine, or gives one new weights.

    python -m wam.models.backends.tensorrt_build REQUEST.json

is a child process of its own: a builder takes minutes and gigabytes, and may crash. Its last line on standard error is
why it failed. What it made is described in the answer's file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from wam.core.errors import WamError
from wam.models.backends import tensorrt_api
from wam.models.backends.artefacts import replace_file
from wam.models.backends.backend import StageUnavailable

COULD_NOT_BUILD = 1


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What a child process makes.

    Attributes:
        model: ONNX graph with its weights beside it.
        engine: file to write.
        answer: file to describe it in.
        timing_cache: what earlier builds on this machine have timed; written again.
        level: effort of the search for kernels, 0 to 5.
        refittable: weights can be replaced later.
        refit: engine to take, whose weights are replaced by those of `model`; "" builds from scratch.
        device: number of the GPU.
        full_precision: products of float32 are not rounded to TF32.
    """

    model: str
    engine: str
    answer: str
    timing_cache: str
    level: int
    refittable: bool
    refit: str = ""
    device: int = 0
    full_precision: bool = True

    def write(self, path: Path) -> None:
        """Write it for the child process."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def read(path: Path) -> BuildRequest:
        """Return what was written."""
        return BuildRequest(**json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True)
class BuildAnswer:
    """What was made.

    Attributes:
        memory: that a run of it works in [bytes].
        tensorrt: version.
    """

    memory: int
    tensorrt: str

    @staticmethod
    def read(path: Path) -> BuildAnswer:
        """Return what was written."""
        values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return BuildAnswer(int(values["memory"]), str(values["tensorrt"]))


def build(request: BuildRequest) -> BuildAnswer:
    """Make what is requested and write it.

    Raises:
        StageUnavailable: TensorRT cannot make it.
    """
    if reason := tensorrt_api.missing():
        raise StageUnavailable(reason)
    trt = tensorrt_api.load()
    log = tensorrt_api.new_log(trt)
    data = _refitted(trt, log, request) if request.refit else _built(trt, log, request)
    engine, _ = _loaded(trt, log, data, what="what it has built")
    Path(request.engine).write_bytes(data)
    answer = BuildAnswer(int(engine.device_memory_size_v2), str(trt.__version__))
    Path(request.answer).write_text(json.dumps(asdict(answer)), encoding="utf-8")
    return answer


def _loaded(trt: Any, log: Any, data: bytes, *, what: str) -> tuple[Any, Any]:
    return tensorrt_api.loaded_engine(trt, data, what=what, remedy="see the log", log=log)


def _built(trt: Any, log: Any, request: BuildRequest) -> bytes:
    builder = tensorrt_api.made(trt.Builder, log, log=log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt_api.made(trt.OnnxParser, network, log, log=log)
    # From the file: the weights are found beside it.
    if not parser.parse_from_file(request.model):
        raise StageUnavailable(f"TensorRT does not take the graph ({_parser_errors(parser)})")
    config = builder.create_builder_config()
    config.builder_optimization_level = request.level
    if request.full_precision:
        config.clear_flag(trt.BuilderFlag.TF32)
    if request.refittable:
        config.set_flag(trt.BuilderFlag.REFIT)
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        if any(size < 0 for size in tensor.shape):
            raise StageUnavailable(f"input {tensor.name} of the graph has no fixed shape")
        shape = tuple(tensor.shape)
        profile.set_shape(tensor.name, shape, shape, shape)
    config.add_optimization_profile(profile)
    # Held until the engine is built: the configuration does not keep it alive.
    cache = _timing_cache(config, Path(request.timing_cache))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise StageUnavailable(f"TensorRT does not build the engine ({tensorrt_api.first_error(log)})")
    _keep(cache, Path(request.timing_cache))
    return bytes(memoryview(plan))


def _refitted(trt: Any, log: Any, request: BuildRequest) -> bytes:
    engine, _runtime = _loaded(trt, log, Path(request.refit).read_bytes(), what=request.refit)
    if not engine.refittable:
        raise StageUnavailable("the engine was built without --refittable")
    refitter = tensorrt_api.made(trt.Refitter, engine, log, log=log)
    parser = tensorrt_api.made(trt.OnnxParserRefitter, refitter, log, log=log)
    if not parser.refit_from_file(request.model):
        raise StageUnavailable(f"TensorRT does not take the new weights ({_parser_errors(parser)})")
    if missing := refitter.get_missing_weights():
        raise StageUnavailable(f"the graph has no weights called {', '.join(map(str, missing[:3]))}")
    if not refitter.refit_cuda_engine():
        raise StageUnavailable(f"TensorRT does not take the new weights ({tensorrt_api.first_error(log)})")
    return bytes(memoryview(engine.serialize()))


def _timing_cache(config: Any, path: Path) -> Any:
    """Return the timings of earlier builds, given to the builder; empty where they are another GPU's or damaged."""
    known = path.read_bytes() if path.is_file() else b""
    for data in (known, b""):
        cache = config.create_timing_cache(data)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    return None


def _keep(cache: Any, path: Path) -> None:
    if cache is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, bytes(memoryview(cache.serialize())))


def _parser_errors(parser: Any) -> str:
    errors = [str(parser.get_error(i).desc()).strip().splitlines()[0] for i in range(parser.num_errors)]
    return "; ".join(errors[:2]) or "it gives no reason"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what the file on the command line requests."""
    (path,) = sys.argv[1:] if arguments is None else arguments
    request = BuildRequest.read(Path(path))
    if torch.cuda.is_available():
        torch.cuda.set_device(request.device)
    try:
        build(request)
    except WamError as error:
        print(error, file=sys.stderr)
        return COULD_NOT_BUILD
    return 0


if __name__ == "__main__":
    sys.exit(main())
