# SPDX-License-Identifier: Apache-2.0
"""The TensorRT engines of a policy: where they lie, and how they are built."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from wam.core.errors import BundleError
from wam.models.backends import onnx_export, tensorrt_api
from wam.models.backends.backend import TENSORRT_NAME, StageUnavailable
from wam.models.backends.engine_builder import BUILD_TIMEOUT_S, EngineBuilder, run_logged
from wam.models.backends.engine_export import ExportedStages
from wam.models.backends.engines import EngineRecord, EngineStore, Settings
from wam.models.backends.gpu import CudaGpu, Gpu
from wam.models.backends.tensorrt import TensorRt
from wam.models.bundle import Bundle

PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How engines are built.

    Attributes:
        precision: one of `PRECISIONS`; "" for the bundle's own.
        stages: names; empty takes all that have few sets of shapes.
        settings: of the builder.
        timeout_s: of the export, and of each build [s].
    """

    precision: str = ""
    stages: tuple[str, ...] = ()
    settings: Settings = field(default_factory=Settings)
    timeout_s: float = BUILD_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class BuiltEngines:
    """What a build has made.

    Attributes:
        built: name of the stage and its set of shapes -> its engine.
        failed: name -> why there is no engine of it.
        skipped: stage -> why none was tried.
    """

    built: Mapping[str, EngineRecord]
    failed: Mapping[str, str]
    skipped: Mapping[str, str]


def engine_store(bundle: Bundle, *, cache: Path, gpu: Gpu) -> EngineStore:
    """Return where the engines of a policy lie; TensorRT has to be there."""
    return EngineStore(
        cache / "engines",
        contract=bundle.contract.contract_hash,
        tensorrt=tensorrt_api.version(),
        gpu=gpu.facts(),
    )


def compiled(bundle: Bundle, *, cache: Path, device: torch.device | str) -> TensorRt | None:
    """Return the backend TensorRT with the engines of a policy; None on a CPU."""
    if torch.device(device).type != "cuda":
        return None
    gpu = CudaGpu(device)
    return TensorRt(lambda: engine_store(bundle, cache=cache, gpu=gpu), gpu=gpu)


def build_engines(
    bundle: Bundle,
    *,
    cache: Path,
    gpu: Gpu,
    options: BuildOptions | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> BuiltEngines:
    """Export the stages of a policy and build an engine of each, all in child processes.

    Args:
        bundle: the policy.
        cache: folder of the user's cache.
        gpu: that the engines are for.
        options: None takes the defaults.
        told: hears what is done.

    Raises:
        BundleError: TensorRT is missing, the GPU does not fit, or the policy cannot be exported.
    """
    options = options or BuildOptions()
    precision = PRECISIONS[options.precision] if options.precision else bundle.manifest.dtype
    reason = (
        onnx_export.missing()
        or tensorrt_api.missing()
        or tensorrt_api.unfit(gpu.facts(), precision=getattr(torch, precision))
    )
    if reason:
        raise BundleError(f"backend {TENSORRT_NAME}: {reason}", where="this machine")
    store = engine_store(bundle, cache=cache, gpu=gpu)
    store.place.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=store.place, prefix=".build-") as folder:
        told(f"exporting the stages in {precision}")
        exported = _exported(bundle, Path(folder), store, gpu, precision=precision, options=options)
        builder = EngineBuilder(store, device=gpu.device.index or 0, timeout_s=options.timeout_s)
        built: dict[str, EngineRecord] = {}
        failed: dict[str, str] = {}
        for stage in exported.graphs:
            told(f"building {stage.name}")
            key = store.key(
                parameters=stage.parameters,
                precision=precision,
                graph=stage.graph,
                settings=options.settings,
            )
            try:
                built[stage.name] = builder.build(stage, key)
            except StageUnavailable as error:
                failed[stage.name] = str(error)
        return BuiltEngines(built, failed, exported.skipped)


def _exported(
    bundle: Bundle, folder: Path, store: EngineStore, gpu: Gpu, *, precision: str, options: BuildOptions
) -> ExportedStages:
    command: Sequence[str] = [
        sys.executable,
        "-m",
        "wam.policies.engine_export",
        str(bundle.directory),
        str(folder),
        str(gpu.device),
        precision,
        *options.stages,
    ]
    try:
        run_logged(
            command, log=store.place / "logs" / "export.log", timeout_s=options.timeout_s, what="the export"
        )
    except StageUnavailable as error:
        raise BundleError(
            f"the stages of {bundle.directory} cannot be exported: {error}", where="the policy"
        ) from error
    return ExportedStages.read(folder)
