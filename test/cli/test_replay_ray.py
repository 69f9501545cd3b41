# SPDX-License-Identifier: Apache-2.0
"""`wam replay scenario --ray`: at the edge to Ray, with a module of its interface in its place."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from wam.cli.main import run
from wam.core.errors import MachineFault
from wam.data.fakes import write_fake_bag
from wam.devices.loader import load_robot


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
        if options["address"] == "auto":
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
    write_fake_bag(tmp_path / "bags" / "ep1", robot=robot, seconds=0.6)
    content = {"robot": "g1_inspire", "policy": "fake", "recordings": ["ep1"], "gate": "none"}
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
    assert ray.calls == [("init", None), ("remote", 2, 0), "get", "shutdown"]
    for name in ("summary.json", "runs/000-ep1-all/events.jsonl", "runs/000-ep1-all/summary.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "b" / "runs" / "000-ep1-all" / "index.html").is_file()


def test_a_worker_that_dies_costs_its_run_alone(
    tmp_path: Path, lab: Path, ray: FakeRay, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.fail = {1}
    sweep = {"recordings": ["ep1"], "robot": "g1_inspire", "policy": "fake", "sweep": {"seed": [0, 1]}}
    lab.write_text(yaml.safe_dump(sweep))
    command = [
        "replay",
        "scenario",
        str(lab),
        "--report",
        str(tmp_path / "r"),
        "--ray",
        "127.0.0.1:PORT",
        "--json",
    ]
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert run([address if part.endswith("PORT") else part for part in command]) == 1
    runs = json.loads(capsys.readouterr().out)["summary"]["runs"]
    assert runs[0]["error"] == "Ray: The worker died unexpectedly."
    assert runs[1]["error"] == ""
    assert ray.calls[0] == ("init", address)
    assert ray.calls[-1] == "shutdown"


def test_a_refusal_of_the_machine_that_a_worker_met_is_exit_code_3(
    tmp_path: Path, lab: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was booked as a recording that could not run, as on a machine without Ray."""

    def refuse(ref: Any) -> None:
        error = ray.exceptions.RayError("ray::run_elsewhere() ...")
        error.__dict__["cause"] = MachineFault("/data/ep1: Permission denied")
        raise error

    monkeypatch.setattr(ray, "get", refuse)
    assert run(["replay", "scenario", str(lab), "--report", str(tmp_path / "r"), "--ray", "local"]) == 3
    assert not (tmp_path / "r").exists()
    assert ray.calls[-1] == "shutdown"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("auto", "Could not find any running Ray instance."),
        ("127.0.0.1:9", "Connection refused"),
        ("ray://127.0.0.1:9", "Connection refused"),
        ("cluster", "no host or no port"),
        ("host:many", "could not be cast"),
    ],
)
def test_a_cluster_that_cannot_be_reached_is_an_error_and_writes_nothing(
    tmp_path: Path, lab: Path, ray: FakeRay, capsys: pytest.CaptureFixture[str], address: str, reason: str
) -> None:
    """Ray itself waited for more than ten minutes at a port where nobody listens."""
    command = ["replay", "scenario", str(lab), "--report", str(tmp_path / "r"), "--ray", address]
    assert run(command) == 1
    error = capsys.readouterr().err
    assert "the Ray cluster cannot be reached" in error
    assert reason in error
    assert "Traceback" not in error
    assert not (tmp_path / "r").exists()


def test_without_ray_the_option_is_refused_by_name(
    tmp_path: Path, lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(["replay", "scenario", str(lab), "--report", str(tmp_path / "r"), "--ray", "local"]) == 1
    assert "--ray needs Ray, which is not installed" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
