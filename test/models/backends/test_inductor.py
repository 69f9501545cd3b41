# SPDX-License-Identifier: Apache-2.0
"""The backend `compile` with the real compiler on a CPU: the stage's numbers, and a second start from what was kept.

Every other test of it has a compiler that compiles nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++"),
]

HERE = Path(__file__).parent

START = """
import json, sys
from pathlib import Path
import torch
from test_regional_compile import spec
from torch._dynamo.utils import counters
from wam.models.backends.compile_cache import CompileCache
from wam.models.backends.plan import BackendPlan
from wam.models.backends.regional_compile import RegionalCompile
from wam.models.backends.stage import StageInputs

torch.set_num_threads(1)
cache = CompileCache(Path(sys.argv[1]), made_for={"policy": "stack"})
stage = spec()
plan = BackendPlan.of(RegionalCompile("cpu", cache=cache))
run = plan.prepare(stage)
x = torch.linspace(-1, 1, 18).reshape(3, 6)
with torch.inference_mode():
    difference = float((run(x) - stage.module(x)).abs().max())
print(json.dumps({
    "backends": [str(one) for one in plan.stages],
    "passed": [verdict.passed for verdict in plan.verdicts],
    "difference": difference,
    "left": sum(variant._runner.left for variant in run._variants.values()),
    "told": cache.told,
    "hits": counters["inductor"]["fxgraph_cache_hit"],
    "misses": counters["inductor"]["fxgraph_cache_miss"],
    "from_file": counters["aot_autograd"]["autograd_cache_hit"],
}))
"""


def started(kept: Path, scratch: Path) -> Any:
    """Return what a process tells that has nothing of the compiler's but the folder `kept`."""
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            [str(HERE), str(HERE.parents[1] / "support"), os.environ.get("PYTHONPATH", "")]
        ),
        "TORCHINDUCTOR_CACHE_DIR": str(scratch),
    }
    command = [sys.executable, "-c", START, str(kept)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_compiled_stage_is_the_stage_and_the_next_start_compiles_nothing(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    first = started(kept, tmp_path / "first")
    assert (first["backends"], first["passed"], first["left"]) == (["compile"], [True], 0)
    assert first["difference"] <= 1e-6
    assert first["misses"] == 1
    assert sorted(path.name for path in kept.iterdir()) == ["stack.bin", "stack.json"]
    second = started(kept, tmp_path / "second")
    assert (second["backends"], second["passed"], second["told"]) == (["compile"], [True], {})
    assert second["difference"] <= 1e-6
    assert second["hits"] + second["from_file"] > 0
    assert second["misses"] == 0


def test_a_damaged_file_of_an_earlier_start_is_compiled_anew(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    started(kept, tmp_path / "first")
    data = (kept / "stack.bin").read_bytes()
    (kept / "stack.bin").write_bytes(data[:-9])
    again = started(kept, tmp_path / "second")
    assert "truncated" in again["told"]["stack"]
    assert (again["misses"], again["passed"]) == (1, [True])
    assert (kept / "stack.bin").stat().st_size > len(data) - 9
