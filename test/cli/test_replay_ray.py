# SPDX-License-Identifier: Apache-2.0
"""`wam replay scenario --ray`: at the edge to Ray, with a module of its interface in its place."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from wam.cli.main import run
from wam.replay.fakes import write_fake_bag
from wam.robots.loader import load_robot


class FakeRay:
    """What of Ray is used: init, remote, get, shutdown, exceptions.RayError. Tasks run when they are asked for."""

    class exceptions:  # noqa: N801
        """As `ray.exceptions`."""

        class RayError(Exception):
            """As Ray's base of all errors of tasks."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.fail: set[int] = set()

    def init(self, **options: Any) -> None:
        """Remember the address; one is unknown."""
        self.calls.append(("init", options["address"]))
        if options["address"] == "nowhere:6379":
            raise ConnectionError("Could not find any running Ray instance.\nmore")

    def remote(self, **options: Any) -> Any:
        """Return a decorator whose tasks are (function, arguments)."""
        self.calls.append(("remote", options["num_cpus"], options["num_gpus"]))
        return lambda function: SimpleNamespace(remote=lambda *arguments: (function, arguments))

    def get(self, ref: Any) -> Any:
        """Run a task; the chosen ones die."""
        self.calls.append("get")
        if self.calls.count("get") in self.fail:
            raise self.exceptions.RayError("The worker died unexpectedly.\nmore")
        function, arguments = ref
        return function(*arguments)

    def shutdown(self) -> None:
        """Remember it."""
        self.calls.append("shutdown")


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    robot = load_robot("g1_inspire")
    for name in ("ep1", "ep2"):
        write_fake_bag(tmp_path / "bags" / name, robot=robot, seconds=1.0)
    content = {"robot": "g1_inspire", "policy": "fake", "recordings": ["ep1", "ep2"]}
    (tmp_path / "bags" / "lab.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "bags" / "lab.yaml"


def test_a_cluster_gives_the_summary_and_the_reports_of_processes(
    tmp_path: Path, lab: Path, ray: FakeRay
) -> None:
    assert run(["replay", "scenario", str(lab), "--report", str(tmp_path / "a")]) == 0
    command = [
        "replay",
        "scenario",
        str(lab),
        "--report",
        str(tmp_path / "b"),
        "--ray",
        "local",
        "--threads",
        "2",
    ]
    assert run(command) == 0
    assert ray.calls == [("init", None), ("remote", 2, 0), ("remote", 2, 0), "get", "get", "shutdown"]
    for name in ("summary.json", "runs/000-ep1-all/events.jsonl", "runs/001-ep2-all/summary.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "b" / "runs" / "001-ep2-all" / "index.html").is_file()


def test_a_worker_that_dies_costs_its_run_alone(
    tmp_path: Path, lab: Path, ray: FakeRay, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.fail = {1}
    command = [
        "replay",
        "scenario",
        str(lab),
        "--report",
        str(tmp_path / "r"),
        "--ray",
        "10.0.0.1:6379",
        "--json",
    ]
    assert run(command) == 1
    runs = json.loads(capsys.readouterr().out)["summary"]["runs"]
    assert runs[0]["error"] == "Ray: The worker died unexpectedly."
    assert runs[1]["error"] == ""
    assert ray.calls[0] == ("init", "10.0.0.1:6379")
    assert ray.calls[-1] == "shutdown"


def test_a_cluster_that_cannot_be_reached_is_an_error_and_writes_nothing(
    tmp_path: Path, lab: Path, ray: FakeRay, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["replay", "scenario", str(lab), "--report", str(tmp_path / "r"), "--ray", "nowhere:6379"]
    assert run(command) == 1
    error = capsys.readouterr().err
    assert "the Ray cluster cannot be reached (Could not find any running Ray instance.)" in error
    assert "Traceback" not in error
    assert not (tmp_path / "r").exists()


def test_without_ray_the_option_is_refused_by_name(
    tmp_path: Path, lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(["replay", "scenario", str(lab), "--report", str(tmp_path / "r"), "--ray", "local"]) == 1
    assert "--ray needs Ray, which is not installed" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
