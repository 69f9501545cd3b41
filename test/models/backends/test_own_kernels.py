# SPDX-License-Identifier: Apache-2.0
"""The backend of own kernels: what it takes, what it refuses and how; kernels themselves are stand-ins here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from fake_graphs import FakeCapture
from host_gpu import HostGpu
from torch import Tensor, nn

from wam.core.errors import BundleError, PolicyFault
from wam.models.backends import cuda_graph
from wam.models.backends.backend import StageUnavailable
from wam.models.backends.bound import BoundStage
from wam.models.backends.choice import choose_plan
from wam.models.backends.cuda_graph import CudaGraphs
from wam.models.backends.own_kernels import OwnKernels
from wam.models.backends.plan import BackendPlan, OrAuto
from wam.models.backends.stage import PolicyPart, StageInputs, StageSlices, StageSpec
from wam.models.backends.turns import DeviceTurns
from wam.runtime.policy import NamedBackend, read_backend


def there(_: torch.device) -> None:
    """Stands for a machine on which kernels run."""


def spec(kernels: Callable[..., Any] | None, dtype: torch.dtype = torch.float32) -> StageSpec:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4).to(dtype)
    given = [StageInputs.of(torch.zeros(3, 6, dtype=dtype))]
    make = None if kernels is None else lambda _: kernels(layer)
    return StageSpec("project", PolicyPart.EXECUTOR, layer, lambda: given, kernels=make)


def right(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    return lambda x: x @ layer.weight.T + layer.bias


def captured() -> CudaGraphs:
    kernels = OwnKernels("cpu", unavailable=there)
    return CudaGraphs(kernels, name="triton", new_capture=FakeCapture)


@torch.inference_mode()
def test_kernels_are_compiled_captured_and_judged_before_they_are_used() -> None:
    plan = BackendPlan.of(captured())
    run = plan.prepare(spec(right))
    assert isinstance(run, BoundStage)
    x = torch.randn(3, 6)
    torch.testing.assert_close(run(x), run.stage.module(x))
    assert [(str(one), one.stage) for one in plan.stages] == [("triton", "project")]
    assert all(verdict.passed for verdict in run.verdicts)
    assert run.variants == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda layer: lambda x: x @ layer.weight.T,
        lambda layer: lambda x: x.flip(0) @ layer.weight.T + layer.bias,
        lambda layer: (
            lambda x: torch.cat((x[:, :-1], torch.zeros_like(x[:, -1:])), 1) @ layer.weight.T + layer.bias
        ),
    ],
    ids=["no bias", "rows mixed up", "sum one short"],
)
def test_a_wrong_kernel_is_refused_by_the_gate(wrong: Callable[..., Any]) -> None:
    with pytest.raises(PolicyFault, match="stage project on backend triton differs from the eager one"):
        BackendPlan.of(captured()).prepare(spec(wrong))


def test_a_stage_that_may_fall_back_runs_eagerly_with_the_reason() -> None:
    plan = BackendPlan(whole=OrAuto(captured()))
    stage = spec(lambda layer: lambda x: 2 * right(layer)(x))
    assert plan.prepare(stage) is stage.module
    (told,) = plan.stages
    assert str(told).startswith("eager (not triton: result 0 of stage project on backend triton differs")


def test_it_says_why_it_does_not_run_on_a_machine() -> None:
    no_triton = OwnKernels("cpu", unavailable=lambda _: "triton is not installed (pip install 'x')")
    assert no_triton.probe() == "triton is not installed (pip install 'x')"
    old = OwnKernels("cpu", gpu=HostGpu("Tesla T4", (7, 5)), unavailable=there)
    assert old.probe() == (
        "the GPU is too old: Tesla T4, compute capability 7.5, the kernels need 8.0; take backend cuda_graph"
    )
    assert OwnKernels("cpu", gpu=HostGpu(capability=(8, 7)), unavailable=there).probe() == ""


def raising(error: Exception) -> Callable[..., Any]:
    def make(_: nn.Linear) -> Callable[[Tensor], Tensor]:
        def run(_: Tensor) -> Tensor:
            raise error

        return run

    return make


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        (spec(None), "it has no kernels of its own: take backend cuda_graph for it"),
        (spec(right, torch.float64), "do not compute in float64: a bundle in bfloat16, float16, float32"),
        (
            spec(raising(ValueError("heads of width 12"))),
            r"do not fit the kernels \(heads of width 12\): take",
        ),
        (
            spec(raising(torch.OutOfMemoryError("CUDA out of memory\n1 GiB"))),
            r"no memory left .*memory\): free",
        ),
        (spec(raising(RuntimeError("Failed to find C compiler. Please set CC"))), "sudo apt install gcc"),
        (spec(raising(AttributeError("no such intrinsic"))), r"do not run here \(no such intrinsic\): take"),
    ],
    ids=["no kernels", "precision", "shapes", "memory", "C compiler", "anything else"],
)
def test_what_stands_in_the_way_is_one_line_with_the_remedy_before_the_policy_is_loaded(
    stage: StageSpec, told: str
) -> None:
    with pytest.raises(BundleError, match=told) as refused:
        BackendPlan.of(captured()).prepare(stage)
    assert "stage project cannot run on backend triton" in str(refused.value)


@torch.inference_mode()
def test_a_long_stage_by_kernels_is_captured_in_its_slices() -> None:
    turns = DeviceTurns()

    class Half(nn.Module):
        def forward(self, before: tuple[Tensor, ...], x: Tensor) -> tuple[Tensor, ...]:
            return ((before[0] if before else x) * 2,)

    class Run:
        slices = StageSlices((Half(), Half()), turns)

        def __call__(self, x: Tensor) -> Tensor:
            return x * 4

    captures: list[FakeCapture] = []

    def new() -> FakeCapture:
        captures.append(FakeCapture())
        return captures[-1]

    stage = StageSpec(
        "prefill",
        PolicyPart.PLANNER,
        lambda x: x * 4,
        lambda: [StageInputs.of(torch.ones(3))],
        kernels=lambda _: Run(),
    )
    run = BackendPlan.of(CudaGraphs(OwnKernels("cpu", unavailable=there), new_capture=new)).prepare(stage)
    before = sum(one.replays for one in captures)
    assert torch.equal(run(torch.full((3,), 2.0)), torch.full((3,), 8.0))
    assert sum(one.replays for one in captures) == before + 2


def test_a_choice_may_leave_to_the_suite_what_a_backend_cannot_run() -> None:
    choice = read_backend("triton or auto, denoise: eager, route: onnxruntime or auto")
    assert choice.whole == NamedBackend("triton", or_auto=True)
    assert choice.stages == {
        "denoise": NamedBackend("eager"),
        "route": NamedBackend("onnxruntime", or_auto=True),
    }
    for text in ("triton or eager", "or auto", "denoise: or auto"):
        with pytest.raises(BundleError, match="'triton or auto'"):
            read_backend(text)


def test_kernels_that_nobody_has_measured_are_taken_by_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "cuda_capture", FakeCapture)
    assert choose_plan("auto", device="cuda:0").name == "cuda_graph, eager"
    named = choose_plan("auto, denoise: triton", device="cuda:0")
    assert named.name == "cuda_graph, eager, denoise: triton"
    assert choose_plan("triton or auto", device="cuda:0").name == "triton or auto"


def test_without_a_gpu_the_choice_is_refused_by_the_stage_s_name_or_falls_back() -> None:
    stage = replace(spec(right), name="denoise")
    with pytest.raises(BundleError, match="stage denoise cannot run on backend triton"):
        choose_plan("denoise: triton", device="cpu").prepare(stage)
    plan = choose_plan("triton or auto", device="cpu")
    assert plan.prepare(stage) is stage.module
    assert str(plan.stages[0]).startswith("eager (not triton: ")


def test_a_refusal_is_a_stage_s_and_not_the_seam_s() -> None:
    with pytest.raises(StageUnavailable, match="no kernels of its own"):
        OwnKernels("cpu", unavailable=there).load(spec(None), spec(None).examples()[0])
