# SPDX-License-Identifier: Apache-2.0
"""A policy in a package of its own, installed beside the suite: listed, trained, loaded, and run by both cycles.

The package is examples/policy; docs/how-to/add-a-policy.md explains its files. Everything runs in other
processes, since the table of policies is read once per process.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
PACKAGE = Path(__file__).resolve().parents[2] / "examples" / "policy"
DATASET = FIXTURES / "older" / "lerobot"
BAG = FIXTURES / "older" / "bag_mcap"
JOINTS = ["j0", "j1", "j2"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

REPLAY = """
import json, sys
from pathlib import Path
from wam.core.policy import LoadedPolicy
from wam.data.fakes import fake_robot
from wam.evaluation.replay.engine import ReplayOptions, ReplaySettings
from wam.evaluation.replay.session import replay
from wam.policies.loading import load_policy
from wam.runtime.policy import PolicyRequest

bag, policy, report = sys.argv[1:]
robot = fake_robot()
loaded = load_policy(PolicyRequest(policy, planner=True, executor=True), robot=robot)
settings = ReplaySettings(planner_latency_ns=100_000_000, executor_latency_ns=50_000_000)
options = ReplayOptions(bag=Path(bag), policy_name=policy, settings=settings)
print(json.dumps(replay(options, robot=robot, policy=loaded, report=Path(report)).summary["metrics"]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which pip has installed the package, as a user would install it."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "example"
    # A build writes beside its source.
    subprocess.run(["cp", "-r", str(PACKAGE), str(source)], check=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
    ]
    subprocess.run([*pip, "--target", str(folder), str(source)], check=True, capture_output=True)
    return folder


class Shell:
    """Runs commands with the package on the import path and a cache of their own."""

    def __init__(self, installed: Path, folder: Path) -> None:
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(installed),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def wam(self, *arguments: str) -> str:
        return self("-m", "wam.cli.main", *arguments)


@pytest.fixture
def shell(installed: Path, tmp_path: Path) -> Shell:
    return Shell(installed, tmp_path)


def metrics_of_replay(shell: Shell, policy: str, report: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads(shell("-c", REPLAY, str(BAG), policy, str(report)).splitlines()[-1])
    return metrics


def test_it_is_listed_with_its_presets_and_commands(shell: Shell) -> None:
    listed = json.loads(shell.wam("info", "--json"))
    assert "example/random" in listed["policies"]
    assert "example/tiny" in listed["presets"]
    assert listed["policy_faults"] == {}
    preset = json.loads(shell.wam("info", "--preset", "example/tiny", "--json"))
    assert preset["parameters"] == {"rows": 84, "total": 84}
    assert "example-table" in shell.wam("convert", "--help")
    assert "example" in shell.wam("train", "--help")


def test_its_tiny_policy_runs_through_planner_and_executor(shell: Shell, tmp_path: Path) -> None:
    metrics = metrics_of_replay(shell, "example/random", tmp_path / "report")
    assert metrics["contexts"] > 0
    assert metrics["chunks"] > 0
    assert metrics["policy_faults"] == 0


def test_it_is_trained_by_one_step_and_its_bundle_runs(shell: Shell, tmp_path: Path) -> None:
    values = {
        "data": {
            "root": str(DATASET),
            "cameras": ["observation.images.cam_high"],
            "joint_names": JOINTS,
            "state_names": JOINTS,
        },
        "optim": {"steps": 1, "batch_size": 2, "precision": "float32"},
        "run": {"out": str(tmp_path / "run"), "device": "cpu", "threads": 1, "tensorboard": False},
    }
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(values))
    shell.wam("train", "example", "--config", str(config))
    bundle = tmp_path / "run" / "bundle"
    shown = json.loads(shell.wam("info", "--policy", str(bundle), "--json"))
    assert shown["kind"] == "example"
    assert shown["action_joints"] == JOINTS
    metrics = metrics_of_replay(shell, str(bundle), tmp_path / "report")
    assert metrics["chunks"] > 0
    assert metrics["policy_faults"] == 0


def test_without_its_package_its_bundle_is_refused_with_the_kinds_that_are_there(
    installed: Path, tmp_path: Path
) -> None:
    shell = Shell(installed, tmp_path)
    write = "from wam.policies.bundles import make_tiny_bundle; import sys; make_tiny_bundle(sys.argv[1], 'example')"
    shell("-c", write, str(tmp_path / "bundle"))
    load = "from wam.policies.bundles import load_policy; import sys; load_policy(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", load, str(tmp_path / "bundle")], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "policy.yaml: kind" in done.stderr
    # Those of the suite; the package's own kind is not among them.
    assert re.search(r"allowed: aha_wam, .*ud_vla; change it in policy.yaml", done.stderr)
    assert "example" not in done.stderr.rpartition("allowed: ")[2]
