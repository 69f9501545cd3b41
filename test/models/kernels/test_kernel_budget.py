# SPDX-License-Identifier: Apache-2.0
"""The kernels at released sizes, compiled for GPUs that are not here, keep their budget."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(900)
"""Seconds of the clock: a loaded machine gives a process that interprets or compiles little of its time."""


def compiled(folder: Path, *what: str) -> list[dict[str, Any]]:
    """Compile in a process of its own, whose triton compiles, with an empty cache."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, "-m", "wam.models.kernels.budget", "--json", *what],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "TRITON_CACHE_DIR": str(folder)},
    )
    assert run.stdout, run.stderr
    records: list[dict[str, Any]] = json.loads(run.stdout)
    return records


def check(records: list[dict[str, Any]], *, overlapped: bool) -> None:
    over = [(r["capability"], r["layer"], r["kernel"], r["over"]) for r in records if r["over"]]
    assert not over
    products = [r for r in records if r["kernel"] != "row_statistics_kernel"]
    assert all(r["tensor_cores"] for r in products)
    assert all(r["pdl"] == overlapped for r in records)


def test_the_action_layer_keeps_its_budget_on_an_h200_and_overlaps_its_launches(tmp_path: Path) -> None:
    records = compiled(tmp_path, "90", "action")
    assert len(records) == 8
    check(records, overlapped=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("capability", ["90", "120", "87"])
@pytest.mark.parametrize("layer", ["action", "prefill", "dust", "ud_vla"])
def test_every_layer_keeps_its_budget_on_every_gpu(tmp_path: Path, layer: str, capability: str) -> None:
    """Orin (sm_87) has no programmatic dependent launch; its kernels are compiled without."""
    check(compiled(tmp_path, capability, layer), overlapped=capability != "87")


def test_a_kernel_over_its_budget_is_named() -> None:
    from wam.models.kernels.budget import over_budget
    from wam.models.kernels.resources import KernelResources

    spilled = KernelResources(255, 112, 140_000, 256, tensor_cores=True, pdl=True)
    assert over_budget(spilled, 90) == [
        "255 registers per thread, allowed 254",
        "112 bytes of stack, allowed 0",
    ]
    assert "140000 bytes of shared memory, allowed 101376" in over_budget(spilled, 120)
