# SPDX-License-Identifier: Apache-2.0
"""Engines on a TensorRT that obeys the documented rules: built, bound, captured, judged and refitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_stages import (
    backend,
    built,
    denoise_spec,
    fallen_back,
    loop,
    loop_inputs,
    padded_recall,
    recall_inputs,
    recall_spec,
    route,
    route_inputs,
    route_spec,
    store,
)
from host_gpu import STREAM, HostGpu

from wam.core.errors import BundleError
from wam.models.backends.cuda_graph import CudaGraphs
from wam.models.backends.engine_builder import StageGraph
from wam.models.backends.engine_export import EngineExport
from wam.models.backends.engines import Settings
from wam.models.backends.gpu import ALIGNMENT, aligned
from wam.models.backends.plan import BackendPlan
from wam.models.backends.stage import PolicyPart, StageInputs, StagePadding, StageSlices, StageSpec
from wam.models.backends.turns import turns_of

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (requirements/model.txt)")
onnx = pytest.importorskip("onnx", reason="onnx is not installed (requirements/export.txt)")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (requirements/export.txt)")

# The exporter imports for many seconds on a busy machine.
pytestmark = pytest.mark.timeout(600)


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
        (
            RuntimeError("operation not permitted when stream is capturing"),
            "it cannot be captured as a graph (operation not permitted",
        ),
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
def test_a_memory_that_fills_takes_two_engines_and_their_weights_once(
    trt10: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every number of frames was an engine of its own, with all weights: a prefill had none."""
    import tensorrt

    spec, where = recall_spec(), store(tmp_path)
    export = EngineExport(tmp_path)
    export.prepare(spec)
    assert [one.name for one in export.exported.graphs] == ["recall.0", "recall.1"]
    for graph in export.exported.graphs:
        built(graph, where)
    loaded: list[object] = []
    read = tensorrt.Runtime.deserialize_cuda_engine

    def reads(self: Any, data: Any) -> Any:
        loaded.append(data)
        return read(self, data)

    monkeypatch.setattr(tensorrt.Runtime, "deserialize_cuda_engine", reads)
    plan = BackendPlan((backend(where),))
    run = plan.prepare(spec)
    assert [str(one) for one in plan.stages] == ["tensorrt"]
    assert len(loaded) == 2
    assert [verdict.passed for verdict in plan.verdicts] == [True] * 4
    for frames in range(4):
        args, _ = recall_inputs(frames, seed=7).arguments()
        torch.testing.assert_close(run(*args), spec.module(*args), atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("in_process")
def test_an_engine_that_does_not_hide_the_padding_is_refused(trt10: str, tmp_path: Path) -> None:
    def shown(inputs: StageInputs) -> StageInputs:
        args, _ = padded_recall(inputs).arguments()
        return StageInputs.of(*args[:2], None if args[2] is None else torch.ones_like(args[2]))

    spec, where = recall_spec(), store(tmp_path)
    assert spec.padding is not None
    wrong = replace(spec, padding=StagePadding(spec.padding.module, shown))
    export = EngineExport(tmp_path)
    export.prepare(wrong)
    for graph in export.exported.graphs:
        built(graph, where)
    assert "differs from the eager one" in fallen_back(where, wrong)


def test_a_stage_in_slices_gets_an_engine_by_name_alone(tmp_path: Path) -> None:
    spec = replace(recall_spec(), slices=StageSlices((), turns_of("cpu")))
    export = EngineExport(tmp_path)
    export.prepare(spec)
    assert export.exported.graphs == ()
    assert "--stage recall, if chunks may wait for all of it" in export.exported.skipped["recall"]


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
