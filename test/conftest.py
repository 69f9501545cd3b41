# SPDX-License-Identifier: Apache-2.0
"""What every test stands on: ROS kept on this machine, and marks that skip by name what cannot run here.

Nothing here imports rclpy, torch or MuJoCo; pure tests run without them.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import shards
from domains import isolate_worker
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
RENDER_TIMEOUT_S = 60
GPU_DRIVER = Path("/proc/driver/nvidia/version")

# Before anything can import rclpy: the domain of a lab's shell may be a robot's.
isolate_worker(os.environ)
os.environ.setdefault("MUJOCO_GL", "egl")
# The machine's cores are shared by the processes of a test; torch's own threads would only fight them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Audit files of the nodes under test are no business of the user who runs the tests.
_STATE = tempfile.TemporaryDirectory(prefix="wam-test-state-", ignore_cleanup_errors=True)
os.environ["XDG_STATE_HOME"] = _STATE.name

# A busy machine is no fault of the code, and a run must be repeatable: the same examples every time, however long.
settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


@functools.cache
def no_ros() -> str:
    """Return why tests over ROS cannot run here, or ""."""
    if importlib.util.find_spec("rclpy") is None:
        return "rclpy is not installed (make setup)"
    # The package name alone proves nothing: from the root, the source folder is found as a namespace.
    spec = importlib.util.find_spec("wam_msgs")
    if spec is None or spec.origin is None:
        return "wam_msgs is not built (make setup)"
    return ""


@functools.cache
def no_rendering() -> str:
    """Return why simulated cameras cannot render here, or ""; tried once, in a process of its own."""
    probe = subprocess.run(
        [sys.executable, str(ROOT / "wam" / "cli" / "probes.py"), "render"],
        capture_output=True,
        text=True,
        timeout=RENDER_TIMEOUT_S,
        cwd="/",
    )
    if probe.returncode == 0 and json.loads(probe.stdout.splitlines()[-1])["red"]:
        return ""
    return "no rendering without a display (sudo apt install libegl1 libgl1-mesa-dri)"


def missing_folder(variable: str, default: str) -> str:
    """Return why a folder of outside data cannot be used, or ""."""
    folder = Path(os.environ.get(variable) or ROOT.parent / "shared" / default)
    return "" if folder.is_dir() else f"{folder} does not exist ({variable})"


def missing_for(mark: str) -> str:
    """Return why tests with `mark` cannot run here, or ""."""
    if mark == "ros":
        return no_ros()
    if mark == "camera":
        return no_rendering()
    if mark == "sim":
        return "" if importlib.util.find_spec("mujoco") else "mujoco is not installed (make setup)"
    if mark == "gpu":
        return "" if GPU_DRIVER.exists() else "no NVIDIA GPU here"
    if mark == "parity":
        return missing_folder("WAM_PARITY_DIR", "parity")
    if mark == "recorded":
        return missing_folder("WAM_TEST_DATA", "data")
    return ""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that divides a run among machines."""
    parser.addoption(
        "--shard", type=shards.Shard.parse, metavar="K/N", help="run the K-th of N parts of the tests"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out, before they are imported, the files that have none of the tests over ROS which were asked for."""
    asked = config.option.markexpr.split(" ")[0] == "ros"
    if asked and collection_path.suffix == ".py" and "mark.ros" not in collection_path.read_text("utf-8"):
        return True
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of this shard, and skip, by name, those whose marks ask for what is not here."""
    if shard := config.getoption("--shard"):
        others = shards.outside(shard, items)
        config.hook.pytest_deselected(items=[item for item in items if item in others])
        items[:] = [item for item in items if item not in others]
    for item in items:
        for mark in {mark.name for mark in item.iter_markers()}:
            if reason := missing_for(mark):
                item.add_marker(pytest.mark.skip(reason=reason))
