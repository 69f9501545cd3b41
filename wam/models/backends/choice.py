# SPDX-License-Identifier: Apache-2.0
"""The plan that runs a policy's stages, by a user's choice and the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from wam.core.errors import BundleError
from wam.models.backends.backend import (
    AUTO,
    COMPILE_NAME,
    CUDA_GRAPH_NAME,
    EAGER_NAME,
    ONNX_RUNTIME_NAME,
    TENSORRT_NAME,
    TRITON_NAME,
    Backend,
    Eager,
)
from wam.models.backends.compile_cache import CompileCache
from wam.models.backends.cuda_graph import CudaGraphs
from wam.models.backends.own_kernels import OwnKernels
from wam.models.backends.plan import Asked, BackendPlan, OrAuto
from wam.models.backends.quarantine import Quarantine
from wam.models.backends.regional_compile import RegionalCompile
from wam.runtime.policy import BACKENDS, NamedBackend, read_backend


def choose_plan(
    text: str,
    *,
    device: torch.device | str,
    allowed: Sequence[str] = BACKENDS,
    exported: Backend | None = None,
    compiled: Backend | None = None,
    warm: CompileCache | None = None,
    quarantine: Quarantine | None = None,
) -> BackendPlan:
    """Return the plan for a user's choice.

    Where the choice is left to the suite, a GPU takes TensorRT for stages that have an engine and CUDA graphs for the
    others, a CPU takes ONNX Runtime, and each stage that cannot runs eagerly, with the reason in the plan's `stages`.
    ONNX Runtime on a GPU is taken by name alone: its runs cannot be captured. So are the own kernels and what is
    compiled, until somebody has measured them on a GPU.

    Args:
        text: as `wam.runtime.policy.read_backend` reads it.
        device: where the policy computes.
        allowed: names of the backends that the kind of policy has.
        exported: the backend ONNX Runtime with the exported stages of this policy; None where there is no bundle.
        compiled: the backend TensorRT with the engines of this policy; None where there is no GPU.
        warm: what `compile` has made of this policy at an earlier start; None keeps nothing.
        quarantine: of what failed in a run at an earlier start; None keeps nothing.

    Raises:
        BundleError: there is no such backend, or it does not run on this device or with this kind of policy.
    """
    choice = read_backend(text)
    on_gpu = torch.device(device).type == "cuda"
    have: dict[str, Backend] = {EAGER_NAME: Eager()}
    if on_gpu and TENSORRT_NAME in allowed and compiled is not None:
        have[TENSORRT_NAME] = CudaGraphs(compiled, name=TENSORRT_NAME)
    if on_gpu and CUDA_GRAPH_NAME in allowed:
        have[CUDA_GRAPH_NAME] = CudaGraphs()
    if ONNX_RUNTIME_NAME in allowed and exported is not None:
        have[ONNX_RUNTIME_NAME] = exported
    if TRITON_NAME in allowed:
        kernels = OwnKernels(device)
        have[TRITON_NAME] = CudaGraphs(kernels, name=TRITON_NAME) if on_gpu else kernels
    if COMPILE_NAME in allowed:
        regions = RegionalCompile(device, cache=warm)
        have[COMPILE_NAME] = CudaGraphs(regions, name=COMPILE_NAME) if on_gpu else regions

    def one(asked: NamedBackend) -> Asked:
        if asked.name == AUTO:
            return None
        if asked.name not in have:
            raise _refusal(asked.name, device=device, allowed=allowed)
        backend = have[asked.name]
        return OrAuto(backend) if asked.or_auto and not isinstance(backend, Eager) else backend

    named = {stage: one(asked) for stage, asked in choice.stages.items()}
    by_name = {EAGER_NAME, TRITON_NAME, COMPILE_NAME} | ({ONNX_RUNTIME_NAME} if on_gpu else set())
    ladder = tuple(backend for name, backend in have.items() if name not in by_name)
    return BackendPlan(ladder, named=named, whole=one(choice.whole), quarantine=quarantine)


def _refusal(name: str, *, device: torch.device | str, allowed: Sequence[str]) -> BundleError:
    if name not in allowed:
        return BundleError(
            f"policies of this kind have no backend {name}",
            allowed=", ".join((AUTO, *allowed)),
            where="the parameter `backend`",
        )
    if name == ONNX_RUNTIME_NAME:
        return BundleError(
            f"the backend {name} needs a bundle", allowed="another backend", where="the parameter `backend`"
        )
    return BundleError(
        f"the backend {name} needs a CUDA device",
        value=str(device),
        allowed="cuda, cuda:0, ...",
        where="the parameters `backend` and `device`",
    )
