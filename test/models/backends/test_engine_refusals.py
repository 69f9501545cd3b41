# SPDX-License-Identifier: Apache-2.0
"""Engines, builds and machines that do not fit: every one falls back, or ends, with one line of cause and remedy."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_stages import backend, built, fallen_back, route, route_inputs, route_spec, store
from host_gpu import HostGpu, forget_tensorrt

from wam.core.errors import PolicyFault
from wam.models.backends import tensorrt_api
from wam.models.backends.backend import StageUnavailable
from wam.models.backends.engine_builder import StageGraph, run_logged
from wam.models.backends.plan import BackendPlan

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (requirements/model.txt)")
onnx = pytest.importorskip("onnx", reason="onnx is not installed (requirements/export.txt)")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (requirements/export.txt)")

# The exporter imports for many seconds on a busy machine.
pytestmark = pytest.mark.timeout(600)


@pytest.mark.usefixtures("in_process")
def test_an_engine_that_does_not_fit_falls_back_with_cause_and_remedy(
    trt10: str, graphs: dict[str, StageGraph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = store(tmp_path)
    assert "it has no engine; build it on this machine: wam build-engine POLICY" in fallen_back(
        where, route_spec()
    )
    built(graphs["route.0"], where)
    other = HostGpu(name="Another GPU", capability=(12, 0))
    for reason, expected in (
        (fallen_back(store(tmp_path, other), route_spec(), other), "GPU Fake GPU, this is Another GPU"),
        (fallen_back(store(tmp_path, contract="b" * 64), route_spec()), "for contract aaaaaaaaaaaa, this is"),
        (fallen_back(where, route_spec(route(seed=3))), "was built for parameters"),
    ):
        assert expected in reason
        assert "wam build-engine POLICY" in reason
    monkeypatch.setenv("FAKE_TENSORRT_VERSION", "11.4.0.106")
    forget_tensorrt()
    assert "TensorRT 10.16.1.11, this is 11.4.0.106" in fallen_back(store(tmp_path), route_spec())


@pytest.mark.usefixtures("in_process")
def test_a_truncated_a_damaged_and_a_foreign_engine_fall_back(
    trt10: str, graphs: dict[str, StageGraph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = store(tmp_path)
    built(graphs["route.0"], where)
    ((path, _),) = where.records("route.0")
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    assert "is truncated" in fallen_back(where, route_spec())
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "its SHA-256 is another" in fallen_back(where, route_spec())
    path.write_bytes(whole)
    # The manifest agrees, but the driver shows another device: TensorRT returns None.
    monkeypatch.setenv("FAKE_TENSORRT_GPU", "Another GPU")
    assert "TensorRT does not load" in fallen_back(where, route_spec())
    path.unlink()
    assert "cannot be read" in fallen_back(where, route_spec())


@pytest.mark.usefixtures("in_process")
def test_a_gpu_that_is_too_old_or_too_small_falls_back(
    trt10: str, graphs: dict[str, StageGraph], tmp_path: Path
) -> None:
    where = store(tmp_path)
    built(graphs["route.0"], where)
    old = HostGpu(capability=(7, 0))
    assert "is too old for TensorRT, which needs 7.5" in fallen_back(where, route_spec(), old)
    small = HostGpu(free=100 << 20)
    assert "0.1 GB are free" in fallen_back(where, route_spec(), small)
    half = HostGpu(capability=(7, 5))
    assert "wam build-engine --precision fp16" in tensorrt_api.unfit(half.facts(), precision=torch.bfloat16)


def test_without_tensorrt_its_libraries_or_a_version_that_is_known_stages_fall_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert "tensorrt is not installed: pip install 'wam_deploy[tensorrt]'" in tensorrt_api.missing()
    monkeypatch.delitem(sys.modules, "tensorrt")
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open shared object')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "has no libraries (libnvinfer.so.10" in tensorrt_api.missing()
    (tmp_path / "tensorrt.py").write_text("__version__ = '9.3.0'")
    assert "9.3.0 is installed, versions 10 and 11 are supported" in tensorrt_api.missing()
    forget_tensorrt()
    (tmp_path / "tensorrt.py").write_text("__version__ = '10.16.1'\nRuntime = object\n")
    assert "has no Builder" in tensorrt_api.missing()
    forget_tensorrt()


@pytest.mark.usefixtures("in_process")
def test_a_folder_that_everybody_may_write_to_is_refused(
    trt10: str, graphs: dict[str, StageGraph], tmp_path: Path
) -> None:
    where = store(tmp_path)
    built(graphs["route.0"], where)
    where.place.chmod(0o777)
    assert "chmod o-w" in fallen_back(where, route_spec())


@pytest.mark.usefixtures("in_process")
def test_an_engine_that_stops_running_is_a_fault_of_the_policy(
    trt10: str, graphs: dict[str, StageGraph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorrt

    where = store(tmp_path)
    built(graphs["route.0"], where)
    run = BackendPlan.of(backend(where)).prepare(route_spec())
    monkeypatch.setattr(tensorrt.IExecutionContext, "execute_async_v3", lambda self, stream_handle: False)
    with pytest.raises(PolicyFault, match="the engine of stage route did not run"):
        run(*route_inputs().tensors)


@pytest.mark.usefixtures("in_process")
def test_a_driver_that_does_not_start_is_named_before_the_node_is_active(
    trt10: str, graphs: dict[str, StageGraph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bindings raise a TypeError that says nothing where there is no driver."""
    import tensorrt

    where = store(tmp_path)
    built(graphs["route.0"], where)

    def nothing(self: Any, logger: Any) -> None:
        logger.log(tensorrt.ILogger.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    for kind in (tensorrt.Runtime, tensorrt.Builder):
        monkeypatch.setattr(kind, "__init__", nothing)
    assert "CUDA initialization failure with error: 35): nvidia-smi" in fallen_back(where, route_spec())
    with pytest.raises(StageUnavailable, match="nvidia-smi"):
        built(graphs["denoise.0"], where)


@pytest.mark.usefixtures("in_process")
def test_a_graph_that_tensorrt_does_not_take_is_named(
    trt10: str, graphs: dict[str, StageGraph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = graphs["route.0"]
    model = onnx.load(str(graph.model), load_external_data=False)
    model.graph.node[0].op_type = "UnknownOperator"
    graph.model.write_bytes(model.SerializeToString())
    with pytest.raises(StageUnavailable, match="No importer registered for op: UnknownOperator"):
        built(graph, store(tmp_path))
    graph.model.with_suffix(".weights").unlink()
    with pytest.raises(StageUnavailable, match="does not take the graph"):
        built(graph, store(tmp_path))
    monkeypatch.setenv("FAKE_TENSORRT_BUILD", "none")
    with pytest.raises(StageUnavailable, match="out of memory"):
        built(graphs["denoise.0"], store(tmp_path))


@pytest.mark.usefixtures("in_process")
def test_timings_are_kept_for_the_next_build_and_left_alone_if_they_are_of_another_gpu(
    trt10: str, graphs: dict[str, StageGraph], tmp_path: Path
) -> None:
    where = store(tmp_path)
    built(graphs["route.0"], where)
    (cache,) = where.place.glob("timing-*.cache")
    assert cache.read_bytes() == b"timings Fake GPU"
    for foreign in (b"timings Another GPU", b"no timings at all"):
        cache.write_bytes(foreign)
        built(graphs["route.0"], where)
        assert cache.read_bytes() == b"timings Fake GPU"


def test_a_build_runs_in_a_child_process_and_a_crash_stays_there(
    trt10: str, graphs: dict[str, StageGraph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = store(tmp_path)
    assert built(graphs["route.0"], where).memory > 0
    BackendPlan.of(backend(where)).prepare(route_spec())
    monkeypatch.setenv("FAKE_TENSORRT_BUILD", "crash")
    with pytest.raises(StageUnavailable, match=r"was ended by signal 6.*log: .*denoise\.0\.log"):
        built(graphs["denoise.0"], where)


def test_a_child_that_takes_too_long_or_fails_is_named_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "one.log"
    endless = [sys.executable, "-c", "import threading; threading.Event().wait()"]
    with pytest.raises(StageUnavailable, match=r"took more than 0\.5 s"):
        run_logged(endless, log=log, timeout_s=0.5, what="the build of its engine")
    failing = [sys.executable, "-u", "-c", "import sys; print('first'); sys.exit('the last line says why')"]
    with pytest.raises(StageUnavailable, match=r"failed: the last line says why \(log: "):
        run_logged(failing, log=log, timeout_s=60, what="the build of its engine")
    assert log.read_text().splitlines() == ["first", "the last line says why"]


def test_a_manifest_that_cannot_be_read_is_no_engine(trt10: str, tmp_path: Path) -> None:
    where = store(tmp_path)
    where.place.mkdir()
    for number, text in enumerate(("{", json.dumps({"format": 99}), "[]")):
        (where.place / f"route.0-{number}.json").write_text(text)
    assert "it has no engine" in fallen_back(where, route_spec())
