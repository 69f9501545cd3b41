# SPDX-License-Identifier: Apache-2.0
"""Engines on a TensorRT that obeys the documented rules: bound, judged, refitted, and refused with a reason."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from host_gpu import STREAM, HostGpu, forget_tensorrt, install_fake_tensorrt
from torch import Tensor, nn

from wam.core.errors import BundleError, PolicyFault
from wam.models.backends import engine_builder, tensorrt_api, tensorrt_build
from wam.models.backends.backend import StageUnavailable
from wam.models.backends.cuda_graph import CudaGraphs
from wam.models.backends.engine_builder import EngineBuilder, StageGraph, run_logged
from wam.models.backends.engine_export import EngineExport
from wam.models.backends.engines import EngineStore, Settings
from wam.models.backends.gpu import ALIGNMENT, aligned
from wam.models.backends.plan import BackendPlan
from wam.models.backends.stage import EulerLoop, PolicyPart, StageInputs, StageSpec
from wam.models.backends.tensorrt import TensorRt

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (requirements/model.txt)")
onnx = pytest.importorskip("onnx", reason="onnx is not installed (requirements/export.txt)")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (requirements/export.txt)")

# The exporter imports for many seconds on a busy machine.
pytestmark = pytest.mark.timeout(600)

CONTRACT = "a" * 64
VERSIONS = ("10.16.1.11", "11.4.0.106")


class Pair(NamedTuple):
    k: Tensor
    v: Tensor


class Velocity(nn.Module):
    """Depends on the state, on the entry of the table, and on both halves of what is fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x: Tensor, entry: Tensor, fixed: Pair) -> Tensor:
        out: Tensor = self.second(torch.tanh(self.first(x) + entry) * fixed.k) + fixed.v
        return out


class Route(nn.Module):
    """Two results of two shapes, from one head that is wider than fused attention."""

    def __init__(self) -> None:
        super().__init__()
        self.to_query = nn.Linear(320, 320)

    def forward(self, x: Tensor) -> Pair:
        query = self.to_query(x)[:, None]
        out = nn.functional.scaled_dot_product_attention(query, x[:, None], x[:, None])[:, 0]
        return Pair(out, out.mean(dim=2))


def loop(*, steps: int = 4, seed: int = 0) -> EulerLoop:
    torch.manual_seed(seed)
    return EulerLoop(Velocity(), [1 - i / steps for i in range(steps + 1)]).requires_grad_(False)


def loop_inputs(*, steps: int = 4, seed: int = 1) -> StageInputs:
    torch.manual_seed(seed)
    pair = Pair(torch.randn(1, 8), torch.randn(1, 6))
    return StageInputs.of(torch.randn(1, 6), torch.randn(steps, 8), pair)


def route(*, seed: int = 0) -> Route:
    torch.manual_seed(seed)
    return Route().requires_grad_(False)


def route_inputs(*, seed: int = 1) -> StageInputs:
    torch.manual_seed(seed)
    return StageInputs.of(torch.randn(1, 5, 320))


def denoise_spec(module: nn.Module | None = None, *, steps: int = 4) -> StageSpec:
    examples: Callable[[], list[StageInputs]] = lambda: [loop_inputs(steps=steps)]  # noqa: E731
    return StageSpec("denoise", PolicyPart.EXECUTOR, module or loop(steps=steps), examples)


def route_spec(module: nn.Module | None = None) -> StageSpec:
    return StageSpec("route", PolicyPart.EXECUTOR, module or route(), lambda: [route_inputs()])


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


def store(tmp_path: Path, gpu: HostGpu | None = None, *, contract: str = CONTRACT) -> EngineStore:
    return EngineStore(
        tmp_path / "engines",
        contract=contract,
        tensorrt=tensorrt_api.version(),
        gpu=(gpu or HostGpu()).facts(),
    )


def built(
    graph: StageGraph, where: EngineStore, *, settings: Settings | None = None, precision: str = "float32"
) -> Any:
    key = where.key(
        parameters=graph.parameters,
        precision=precision,
        graph=graph.graph,
        settings=settings or Settings(),
    )
    return EngineBuilder(where).build(graph, key)


def backend(where: EngineStore, gpu: HostGpu | None = None) -> TensorRt:
    return TensorRt(lambda: where, gpu=gpu or HostGpu())


def fallen_back(where: EngineStore, spec: StageSpec, gpu: HostGpu | None = None) -> str:
    """Return why the stage runs eagerly where the suite may choose."""
    plan = BackendPlan((backend(where, gpu),))
    assert plan.prepare(spec) is spec.module
    assert plan.stages[0].backend == "eager"
    reason = plan.stages[0].reason
    assert "\n" not in reason
    assert reason.startswith("not tensorrt: ")
    return reason


@pytest.mark.usefixtures("in_process")
def test_an_engine_gives_what_the_eager_stage_gives_and_reports_its_backend(
    trt: str, graphs: dict[str, StageGraph], tmp_path: Path
) -> None:
    where, gpu = store(tmp_path), HostGpu()
    record = built(graphs["route.0"], where)
    assert (record.key.tensorrt, record.refitted) == (trt, False)
    plan = BackendPlan.of(backend(where, gpu))
    run = plan.prepare(route_spec())
    for seed in range(3):
        args, _ = route_inputs(seed=seed).arguments()
        torch.testing.assert_close(run(*args), route()(*args), atol=1e-5, rtol=1e-5)
    assert [str(one) for one in plan.stages] == ["tensorrt"]
    assert [verdict.passed for verdict in plan.verdicts] == [True]
    assert len(gpu.lanes) == 1


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("steps", [1, 4, 10])
def test_an_engine_of_one_step_integrates_every_number_of_steps(
    trt10: str, graphs: dict[str, StageGraph], tmp_path: Path, steps: int
) -> None:
    where = store(tmp_path)
    built(graphs["denoise.0"], where)
    run = BackendPlan.of(backend(where)).prepare(denoise_spec(steps=steps))
    args, _ = loop_inputs(steps=steps, seed=5).arguments()
    start = args[0].clone()
    torch.testing.assert_close(run(*args), loop(steps=steps)(*args), atol=1e-5, rtol=1e-5)
    assert torch.equal(args[0], start)


@pytest.mark.usefixtures("in_process")
def test_inputs_are_read_where_they_are_and_results_are_never_written_again(
    trt10: str, graphs: dict[str, StageGraph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorrt

    where = store(tmp_path)
    built(graphs["route.0"], where)
    run = BackendPlan.of(backend(where)).prepare(route_spec())
    given: dict[str, int] = {}
    streams: list[int] = []
    known = tensorrt.IExecutionContext

    def address(self: Any, name: str, memory: int) -> bool:
        given[name] = memory
        return bool(set_address(self, name, memory))

    def execute(self: Any, stream_handle: int) -> bool:
        streams.append(stream_handle)
        return bool(enqueue(self, stream_handle))

    set_address, enqueue = known.set_tensor_address, known.execute_async_v3
    monkeypatch.setattr(known, "set_tensor_address", address)
    monkeypatch.setattr(known, "execute_async_v3", execute)
    x = aligned(route_inputs(seed=2).tensors[0])
    first = run(x)
    assert x.data_ptr() in given.values()
    assert first.k.data_ptr() in given.values()
    kept = first.k.clone()
    second = run(aligned(route_inputs(seed=3).tensors[0]))
    assert torch.equal(first.k, kept)
    assert second.k.data_ptr() != first.k.data_ptr()
    assert streams == [STREAM, STREAM]


@pytest.mark.usefixtures("in_process")
def test_tensors_at_any_address_are_taken(trt10: str, graphs: dict[str, StageGraph], tmp_path: Path) -> None:
    """TensorRT wants addresses of 256 bytes; an entry of a table lies anywhere."""
    where = store(tmp_path)
    built(graphs["route.0"], where)
    run = BackendPlan.of(backend(where)).prepare(route_spec())
    (x,) = route_inputs(seed=2).tensors
    room = torch.empty(x.numel() + 1)
    skewed = room[1:].view(x.shape).copy_(x)
    assert any(one.data_ptr() % ALIGNMENT for one in (skewed, room.view(-1)))
    torch.testing.assert_close(run(skewed), route()(x), atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("in_process")
def test_engines_of_one_part_share_memory_and_one_order_of_work(
    trt10: str, graphs: dict[str, StageGraph], tmp_path: Path
) -> None:
    where, gpu = store(tmp_path), HostGpu()
    for graph in graphs.values():
        built(graph, where)
    one = backend(where, gpu)
    plan = BackendPlan.of(one)
    plan.prepare(route_spec())
    plan.prepare(denoise_spec())
    assert [stage.backend for stage in plan.stages] == ["tensorrt", "tensorrt"]
    assert len(gpu.lanes) == 1


@pytest.mark.usefixtures("in_process")
def test_a_captured_engine_keeps_its_name_its_shapes_and_its_precision(
    trt10: str, graphs: dict[str, StageGraph], tmp_path: Path
) -> None:
    where = store(tmp_path)
    built(graphs["denoise.0"], where)

    def capture(run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        results = run()

        def replay() -> None:
            for old, new in zip(results, run(), strict=True):
                old.copy_(new)

        return replay, results

    graphs_of = CudaGraphs(backend(where), name="tensorrt", new_capture=lambda: capture)
    assert (graphs_of.name, graphs_of.only_examples) == ("tensorrt", True)
    plan = BackendPlan.of(graphs_of)
    run = plan.prepare(denoise_spec())
    args, _ = loop_inputs(seed=5).arguments()
    with torch.inference_mode():
        torch.testing.assert_close(run(*args), loop()(*args), atol=1e-5, rtol=1e-5)
    assert [one.backend for one in plan.stages] == ["tensorrt"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "has no memory left for its"),
        (RuntimeError("operation not permitted when stream is capturing"), "does not capture it as a graph"),
    ],
)
def test_a_driver_that_does_not_capture_lets_the_stage_run_eagerly(error: Exception, reason: str) -> None:
    def fails(run: Callable[[], Any]) -> Any:
        raise error

    module = route()
    spec = route_spec(module)
    plan = BackendPlan((CudaGraphs(new_capture=lambda: fails),))
    assert plan.prepare(spec) is module
    assert reason in plan.stages[0].reason


@pytest.mark.usefixtures("in_process")
def test_half_precision_passes_the_gate_of_half_precision_and_not_that_of_float32(
    trt10: str, tmp_path: Path
) -> None:
    export = EngineExport(tmp_path)
    halved = route().half()
    spec = StageSpec(
        "route",
        PolicyPart.EXECUTOR,
        halved,
        lambda: [StageInputs.of(*(one.half() for one in route_inputs().tensors))],
    )
    export.prepare(spec)
    (graph,) = export.exported.graphs
    own = EngineExport(tmp_path, graphs=False)
    own.prepare(route_spec())
    (graph,) = (replace(graph, parameters=own.digests["route"]),)
    where = store(tmp_path)
    built(graph, where, precision="float16")
    plan = BackendPlan.of(backend(where))
    run = plan.prepare(route_spec())
    args, _ = route_inputs(seed=2).arguments()
    assert run(*args).k.dtype == torch.float32
    torch.testing.assert_close(run(*args).k, route()(*args).k, atol=1e-2, rtol=1e-2)
    (verdict,) = plan.verdicts
    assert 1e-4 < verdict.worst.difference < verdict.worst.allowed < 0.05


@pytest.mark.usefixtures("in_process")
def test_heads_wider_than_fused_attention_are_written_as_products(
    trt10: str, graphs: dict[str, StageGraph]
) -> None:
    model = onnx.load(str(graphs["route.0"].model), load_external_data=False)
    operators = [node.op_type for node in model.graph.node]
    assert "Attention" not in operators
    assert operators.count("Softmax") == 1


@pytest.mark.usefixtures("in_process")
def test_a_refittable_engine_takes_new_weights_of_the_same_graph(
    trt: str, graphs: dict[str, StageGraph], tmp_path: Path
) -> None:
    where, settings = store(tmp_path), Settings(refittable=True)
    built(graphs["denoise.0"], where, settings=settings)
    other = loop(seed=9)
    export = EngineExport(tmp_path / "work")
    export.prepare(denoise_spec(other))
    (graph,) = export.exported.graphs
    assert graph.graph == graphs["denoise.0"].graph
    assert "was built for parameters" in fallen_back(where, denoise_spec(other))
    record = built(graph, where, settings=settings)
    assert record.refitted
    run = BackendPlan.of(backend(where)).prepare(denoise_spec(other))
    args, _ = loop_inputs(seed=5).arguments()
    torch.testing.assert_close(run(*args), other(*args), atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("in_process")
def test_a_refit_that_loses_a_bias_is_refused_by_the_gate_and_stays_so(
    trt10: str, graphs: dict[str, StageGraph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version of TensorRT has dropped the bias of a product at a refit, and reported success."""
    import tensorrt

    where, settings = store(tmp_path), Settings(refittable=True)
    built(graphs["denoise.0"], where, settings=settings)
    refit = tensorrt.Refitter.refit_cuda_engine

    def loses(self: Any) -> bool:
        for name in self._new:
            if name.endswith("second.bias"):
                self._new[name] = 0 * self._new[name]
        return bool(refit(self))

    monkeypatch.setattr(tensorrt.Refitter, "refit_cuda_engine", loses)
    other = loop(seed=9)
    export = EngineExport(tmp_path / "work")
    export.prepare(denoise_spec(other))
    (graph,) = export.exported.graphs
    assert built(graph, where, settings=settings).refitted
    assert "differs from the eager one" in fallen_back(where, denoise_spec(other))
    assert "was refused before" in fallen_back(where, denoise_spec(other))
    with pytest.raises(BundleError, match="was refused before"):
        BackendPlan.of(backend(where)).prepare(denoise_spec(other))


@pytest.mark.usefixtures("in_process")
def test_an_engine_without_refit_is_built_again_for_new_weights(
    trt10: str, graphs: dict[str, StageGraph], tmp_path: Path
) -> None:
    where = store(tmp_path)
    built(graphs["denoise.0"], where)
    assert not built(replace(graphs["denoise.0"], parameters="b" * 64), where).refitted


@pytest.mark.usefixtures("in_process")
def test_another_precision_replaces_the_engine_so_that_there_is_never_a_choice(
    trt10: str, graphs: dict[str, StageGraph], tmp_path: Path
) -> None:
    where = store(tmp_path)
    for settings in (Settings(level=3), Settings(level=5)):
        built(graphs["route.0"], where, settings=settings)
    ((_, record),) = where.records("route.0")
    assert record.key.settings.level == 5


@pytest.mark.usefixtures("in_process")
def test_a_key_changes_with_everything_that_an_engine_depends_on(trt10: str, tmp_path: Path) -> None:
    key = store(tmp_path).key(parameters="p", precision="float32", graph="g", settings=Settings())
    others = [
        replace(key, **{name: value})
        for name, value in {
            "contract": "b", "parameters": "q", "tensorrt": "11", "gpu": "other", "capability": (12, 0),
            "precision": "float16", "graph": "h", "settings": Settings(level=4),
        }.items()
    ]  # fmt: skip
    assert len({one.digest for one in (key, *others)}) == len(others) + 1


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
    failing = [sys.executable, "-c", "import sys; print('first'); sys.exit('the last line says why')"]
    with pytest.raises(StageUnavailable, match=r"failed: the last line says why \(log: "):
        run_logged(failing, log=log, timeout_s=60, what="the build of its engine")
    assert log.read_text().splitlines() == ["first", "the last line says why"]


def test_a_manifest_that_cannot_be_read_is_no_engine(trt10: str, tmp_path: Path) -> None:
    where = store(tmp_path)
    where.place.mkdir()
    for number, text in enumerate(("{", json.dumps({"format": 99}), "[]")):
        (where.place / f"route.0-{number}.json").write_text(text)
    assert "it has no engine" in fallen_back(where, route_spec())
