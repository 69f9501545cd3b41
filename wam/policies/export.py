# SPDX-License-Identifier: Apache-2.0
"""Where the stages of a policy lie that were exported for ONNX Runtime, and what exports those that are missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from wam.models.backends.artefacts import ArtefactStore
from wam.models.backends.backend import StageUnavailable
from wam.models.backends.onnx_export import OnnxExporter, export_versions
from wam.models.backends.onnx_runtime import OnnxRuntime
from wam.models.backends.plan import BackendPlan
from wam.models.bundle import Bundle

EXPORT_TIMEOUT_S = 900.0


def store_of(bundle: Bundle, *, cache: Path) -> ArtefactStore:
    """Return where the exported stages of a policy lie: beside its weights, or in the cache.

    Args:
        bundle: the policy.
        cache: folder of the user's cache.
    """
    contract = bundle.contract.contract_hash
    places = (bundle.directory, cache / "stages" / contract[:16])
    return ArtefactStore(contract, places, versions=export_versions())


def exported(bundle: Bundle, *, cache: Path) -> OnnxRuntime:
    """Return the backend ONNX Runtime with the exported stages of a policy."""

    def build() -> None:
        command = [sys.executable, "-m", "wam.policies.stage_export", str(bundle.directory)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=EXPORT_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise StageUnavailable(
                f"its export took more than {EXPORT_TIMEOUT_S:g} s; run it by hand: wam check-backend --export"
            ) from error
        if done.returncode:
            why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise StageUnavailable(f"its export failed: {why}")

    return OnnxRuntime(store_of(bundle, cache=cache), builder=build)


def export_plan(bundle: Bundle, *, cache: Path) -> tuple[BackendPlan, OnnxExporter]:
    """Return a plan that exports every stage while the policy is loaded, and its exporter."""
    exporter = OnnxExporter(store_of(bundle, cache=cache))
    return BackendPlan.of(exporter), exporter
