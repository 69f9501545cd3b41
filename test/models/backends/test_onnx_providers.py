# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on a GPU: which providers a session gets, their options, and tensors that are bound where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wam.models.backends.artefacts import ArtefactStore
from wam.models.backends.onnx_export import CUDA_PROVIDER_FORM, OnnxExporter, export_versions
from wam.models.backends.onnx_runtime import OnnxRuntime, providers
from wam.models.backends.plan import BackendPlan
from wam.models.backends.stage import EulerLoop, PolicyPart, StageInputs, StageSpec

ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (requirements/model.txt)")
pytest.importorskip("onnx", reason="onnx is not installed (requirements/export.txt)")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (requirements/export.txt)")

# The exporter imports for many seconds on a busy machine.
pytestmark = pytest.mark.timeout(600)

TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"


class Language(nn.Module):
    """Takes token ids, their places and which of them count."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 6)

    def forward(self, x: Tensor, ids: Tensor, places: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        seen = torch.where(mask[:, None], self.table(ids) + places[:, None], 0.0)
        return x + seen, ids + 1, places + 1, ~mask


class Velocity(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x: Tensor, entry: Tensor, fixed: Tensor) -> Tensor:
        out: Tensor = self.second(torch.tanh(self.first(x) + entry) * fixed)
        return out


def loop() -> EulerLoop:
    torch.manual_seed(0)
    return EulerLoop(Velocity(), [1.0, 0.6, 0.3, 0.0]).requires_grad_(False)


def inputs(seed: int = 1) -> StageInputs:
    torch.manual_seed(seed)
    return StageInputs.of(torch.randn(1, 6), torch.randn(3, 8), torch.randn(1, 8))


def spec() -> StageSpec:
    return StageSpec("denoise", PolicyPart.EXECUTOR, loop(), lambda: [inputs()])


def have(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [*names, CPU])


def names(chosen: list[tuple[str, dict[str, str]]]) -> list[str]:
    return [name for name, _ in chosen]


def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let sessions compute on the CPU; return the providers that they were asked for."""
    asked: list[Any] = []
    session = ort.InferenceSession

    def made(graph: bytes, options: Any, *, providers: list[Any]) -> Any:
        asked.append(providers)
        return session(graph, options, providers=[CPU])

    monkeypatch.setattr(ort, "InferenceSession", made)
    return asked


def test_a_cpu_takes_the_cpu_whatever_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, TENSORRT, CUDA)
    assert names(providers(torch.device("cpu"), dtype=torch.float32, engines=None)) == [CPU]


def test_a_gpu_takes_tensorrt_where_it_is_then_cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    have(monkeypatch, TENSORRT, CUDA)
    chosen = providers(torch.device("cuda:1"), dtype=torch.bfloat16, engines=tmp_path / "own")
    assert names(chosen) == [TENSORRT, CUDA, CPU]
    options = chosen[0][1]
    assert options["device_id"] == chosen[1][1]["device_id"] == "1"
    assert (options["trt_bf16_enable"], options["trt_fp16_enable"]) == ("True", "False")
    assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "True"
    assert options["trt_engine_cache_path"] == str(tmp_path / "own")
    have(monkeypatch, CUDA)
    assert names(providers(torch.device("cuda"), dtype=torch.float16, engines=None)) == [CUDA, CPU]


def test_without_a_provider_for_a_gpu_stages_fall_back_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    have(monkeypatch)
    place = ArtefactStore("a" * 64, (tmp_path,), versions=export_versions(CUDA_PROVIDER_FORM))
    plan = BackendPlan((OnnxRuntime(place, device="cuda"),))
    plan.prepare(spec())
    assert "pip install onnxruntime-gpu" in plan.stages[0].reason


def test_tensors_are_bound_where_they_lie_and_a_graph_of_one_step_takes_all_steps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = ArtefactStore("a" * 64, (tmp_path,), versions=export_versions(CUDA_PROVIDER_FORM))
    BackendPlan.of(OnnxExporter(place, CUDA_PROVIDER_FORM)).prepare(spec())
    have(monkeypatch, TENSORRT, CUDA)
    asked = on_the_cpu(monkeypatch)
    backend = OnnxRuntime(place, device="cuda", engines=tmp_path / "engines")
    plan = BackendPlan.of(backend)
    run = plan.prepare(spec())
    for seed in range(3):
        args, _ = inputs(seed).arguments()
        torch.testing.assert_close(run(*args), loop()(*args), atol=1e-5, rtol=1e-5)
    assert names(asked[0]) == [TENSORRT, CUDA, CPU]
    (own,) = (tmp_path / "engines").iterdir()
    assert asked[0][0][1]["trt_engine_cache_path"] == str(own)
    assert [str(one) for one in plan.stages] == ["onnxruntime"]


def test_token_ids_and_masks_are_bound_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The table of types had floating point alone: a bare StopIteration ended the loading of DUST's `language`."""
    torch.manual_seed(0)
    language = Language().requires_grad_(False)

    def given(seed: int) -> StageInputs:
        torch.manual_seed(seed)
        ids, places = torch.randint(20, (5,)), torch.arange(5, dtype=torch.int32)
        return StageInputs.of(torch.randn(5, 6), ids, places, torch.rand(5) > 0.5)

    stage = StageSpec("language", PolicyPart.PLANNER, language, lambda: [given(1)])
    place = ArtefactStore("a" * 64, (tmp_path,), versions=export_versions(CUDA_PROVIDER_FORM))
    BackendPlan.of(OnnxExporter(place, CUDA_PROVIDER_FORM)).prepare(stage)
    have(monkeypatch, TENSORRT, CUDA)
    on_the_cpu(monkeypatch)
    plan = BackendPlan.of(OnnxRuntime(place, device="cuda"))
    run = plan.prepare(stage)
    for seed in range(2, 5):
        args, _ = given(seed).arguments()
        torch.testing.assert_close(run(*args), language(*args))
    assert [str(one) for one in plan.stages] == ["onnxruntime"]


def test_a_type_that_cannot_be_bound_is_the_reason_for_another_backend(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Doubled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.double() * 2

    have(monkeypatch, TENSORRT, CUDA)
    on_the_cpu(monkeypatch)
    for x, reason in (
        (torch.ones(3).double(), "arguments of type torch.float64"),
        (torch.ones(3), "tensor(double)"),
    ):
        stage = StageSpec("doubled", PolicyPart.PLANNER, Doubled(), lambda x=x: [StageInputs.of(x)])
        place = ArtefactStore("a" * 64, (tmp_path,), versions=export_versions(CUDA_PROVIDER_FORM))
        BackendPlan.of(OnnxExporter(place, CUDA_PROVIDER_FORM)).prepare(stage)
        plan = BackendPlan([OnnxRuntime(place, device="cuda")])
        assert plan.prepare(stage) is stage.module
        assert reason in plan.stages[0].reason
