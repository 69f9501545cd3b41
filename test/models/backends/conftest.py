# SPDX-License-Identifier: Apache-2.0
"""Stages that were exported for engines, and the fake TensorRT that builds and runs them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from engine_stages import VERSIONS, denoise_spec, route_spec
from host_gpu import forget_tensorrt, install_fake_tensorrt

from wam.models.backends import engine_builder, tensorrt_build
from wam.models.backends.backend import StageUnavailable
from wam.models.backends.engine_builder import StageGraph
from wam.models.backends.engine_export import EngineExport


@pytest.fixture(params=VERSIONS)
def trt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The version of the fake that is installed."""
    install_fake_tensorrt(monkeypatch, version=request.param)
    yield request.param
    forget_tensorrt()


@pytest.fixture
def trt10(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    install_fake_tensorrt(monkeypatch)
    yield VERSIONS[0]
    forget_tensorrt()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StageGraph]:
    plan = EngineExport(tmp_path_factory.mktemp("graphs"))
    for spec in (denoise_spec(), route_spec()):
        assert plan.prepare(spec) is spec.module
    assert plan.exported.skipped == {}
    return {graph.name: graph for graph in plan.exported.graphs}


@pytest.fixture
def graphs(exported: dict[str, StageGraph], tmp_path: Path) -> dict[str, StageGraph]:
    """The exported stages, in a folder of their own."""
    copies = {}
    for name, graph in exported.items():
        work = tmp_path / "work" / name
        shutil.copytree(graph.model.parent, work)
        copies[name] = replace(graph, model=work / graph.model.name)
    return copies


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build without a child process, which imports for seconds."""

    def run(command: list[str], *, log: Path, timeout_s: float, what: str) -> None:
        try:
            tensorrt_build.build(tensorrt_build.BuildRequest.read(Path(command[-1])))
        except StageUnavailable as error:
            raise StageUnavailable(f"{what} failed: {error} (log: {log})") from error

    monkeypatch.setattr(engine_builder, "run_logged", run)
