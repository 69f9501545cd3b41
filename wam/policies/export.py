# SPDX-License-Identifier: Apache-2.0
"""Where the stages of a policy lie that were exported for ONNX Runtime, and what exports those that are missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from wam.models.backends.artefacts import ArtefactStore
from wam.models.backends.backend import StageUnavailable
from wam.models.backends.onnx_export import (
    CPU_FORM,
    CUDA_PROVIDER_FORM,
    GraphForm,
    OnnxExporter,
    export_versions,
)
from wam.models.backends.onnx_runtime import OnnxRuntime, version
from wam.models.backends.plan import BackendPlan
from wam.models.bundle import Bundle

EXPORT_TIMEOUT_S = 900.0


def form_for(device: torch.device | str) -> GraphForm:
    """Return how stages are written down for ONNX Runtime on a device."""
    return CPU_FORM if torch.device(device).type == "cpu" else CUDA_PROVIDER_FORM


def store_of(bundle: Bundle, *, cache: Path, device: torch.device | str = "cpu") -> ArtefactStore:
    """Return where the exported stages of a policy lie: beside its weights, or in the cache.

    Args:
        bundle: the policy.
        cache: folder of the user's cache.
        device: that they are for; graphs for a GPU lie in the cache alone.
    """
    contract = bundle.contract.contract_hash
    own = cache / "stages" / contract[:16]
    places = (bundle.directory, own) if torch.device(device).type == "cpu" else (own / "gpu",)
    return ArtefactStore(contract, places, versions=export_versions(form_for(device)), runtime=version())


def exported(bundle: Bundle, *, cache: Path, device: torch.device | str = "cpu") -> OnnxRuntime:
    """Return the backend ONNX Runtime with the exported stages of a policy."""
    on_cpu = torch.device(device).type == "cpu"

    def build() -> None:
        command = [sys.executable, "-m", "wam.policies.stage_export", str(bundle.directory), str(device)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=EXPORT_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise StageUnavailable(
                f"its export took more than {EXPORT_TIMEOUT_S:g} s; run it by hand: wam export POLICY"
            ) from error
        if done.returncode:
            why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise StageUnavailable(f"its export failed: {why}")

    engines = None if on_cpu else cache / "stages" / "onnxruntime-engines"
    store = store_of(bundle, cache=cache, device=device)
    return OnnxRuntime(store, builder=build, device=device, engines=engines)


def export_plan(
    bundle: Bundle, *, cache: Path, device: torch.device | str = "cpu"
) -> tuple[BackendPlan, OnnxExporter]:
    """Return a plan that exports every stage while the policy is loaded, and its exporter."""
    exporter = OnnxExporter(store_of(bundle, cache=cache, device=device), form_for(device))
    return BackendPlan.of(exporter), exporter
