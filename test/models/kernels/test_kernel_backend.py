# SPDX-License-Identifier: Apache-2.0
"""Stages by own kernels are the stages, and a wrong kernel is refused: in Triton's interpreter, at tiny sizes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(1800)
"""Seconds of the clock: a loaded machine gives a process that interprets or compiles little of its time."""

FLOAT32 = 1e-5
"""L2 norm of the difference over that of the result."""
BACKEND = Path(__file__).parents[2] / "support" / "kernel_backend_measurements.py"


@pytest.fixture(scope="module")
def measure_stage(asked: Any) -> Iterator[Any]:
    with asked(BACKEND) as ask:
        yield ask


@pytest.mark.parametrize(
    ("policy", "name", "shapes"),
    [
        ("aha_wam", "denoise", "first"),
        ("aha_wam", "planner_prefill", "first"),
        ("aha_wam", "planner_prefill", "last"),
        ("dust", "action_prefix", "first"),
        ("dust", "evaluate_joint", "first"),
        ("dust", "evaluate_vision", "first"),
        ("dust", "evaluate_action", "first"),
        ("ud_vla", "generated_pass", "first"),
    ],
)
def test_a_stage_by_kernels_is_the_stage(measure_stage: Any, policy: str, name: str, shapes: str) -> None:
    """The last shapes of a prefill have a full memory."""
    assert measure_stage("stage", policy=policy, name=name, shapes=shapes) <= FLOAT32


def test_a_captured_stage_passes_the_gate_as_a_loading_policy_asks_it(measure_stage: Any) -> None:
    result = measure_stage("loaded")
    assert result["difference"] <= FLOAT32
    assert (result["passed"], result["variants"], result["unseen"]) == ([True], 1, 0)


def test_a_kernel_that_loses_a_part_of_a_sum_is_refused_by_the_gate(measure_stage: Any) -> None:
    told = measure_stage("planted", fault="short sum")
    assert "stage denoise on backend triton differs from the eager one" in told


def test_a_launch_over_the_budget_of_a_gpu_is_named(tmp_path: Path) -> None:
    """The action layer fits an H200; with shared memory for nothing it does not."""
    program = """
import json
from wam.models.kernels import budget
items = budget.launches("action", 90)
fits = budget.too_large(items, 90)
budget.SHARED[90] = 1024
print(json.dumps([fits, budget.too_large(items[:1], 90)]))
"""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path)},
    )
    fits, over = json.loads(done.stdout)
    assert fits == ""
    assert over.startswith("norm_project_kernel: ")
    assert over.endswith("bytes of shared memory, allowed 1024")
