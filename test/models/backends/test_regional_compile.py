# SPDX-License-Identifier: Apache-2.0
"""Compiled regions: once for all layers, never after warm-up, refused with one line; on stand-ins for a compiler."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from fake_graphs import FakeCapture
from host_gpu import HostGpu
from torch import Tensor, nn

from wam.bench.aha_wam_full_size import random_policy
from wam.bench.ladder import StageCollector, difference, varied
from wam.core.errors import BundleError, PolicyFault
from wam.models.backends.backend import StageUnavailable
from wam.models.backends.bound import BoundStage
from wam.models.backends.choice import choose_plan
from wam.models.backends.compile_cache import CompileCache, compile_versions
from wam.models.backends.cuda_graph import CudaGraphs
from wam.models.backends.plan import BackendPlan, OrAuto
from wam.models.backends.regional_compile import CompiledRunner, RegionalCompile
from wam.models.backends.stage import PolicyPart, StageInputs, StageSpec
from wam.policies.aha_wam import config as aha_config

pytestmark = pytest.mark.timeout(900)
"""Seconds of the clock: importing the tracer takes long on a loaded machine."""


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def mix(self, x: Tensor, *, by: float = 0.5) -> Tensor:
        return F.gelu(self.linear(x)) + by * x


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer.mix(x)
        return x


class Compiler:
    """Compiles nothing, and counts what it is given."""

    def __init__(self, change: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        self.graphs = 0
        self._change = change

    def __call__(self, graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        self.graphs += 1
        return lambda *args: [self._change(out) for out in graph(*args)]


def spec(rows: int = 3) -> StageSpec:
    torch.manual_seed(0)
    given = [StageInputs.of(torch.zeros(rows, 6))]
    stack = Stack().eval().requires_grad_(False)
    return StageSpec("stack", PolicyPart.EXECUTOR, stack, lambda: given, regions=(Layer.mix,))


@torch.inference_mode()
def runner_of(stage: StageSpec, compiler: Compiler) -> CompiledRunner:
    runner = RegionalCompile("cpu", compiler=compiler).load(stage, stage.examples()[0])
    assert isinstance(runner, CompiledRunner)
    runner.bind()
    return runner


@torch.inference_mode()
def test_a_region_is_compiled_once_for_all_layers_and_captured_and_judged() -> None:
    compiler, capture = Compiler(), FakeCapture()
    backend = CudaGraphs(
        RegionalCompile("cpu", compiler=compiler), name="compile", new_capture=lambda: capture
    )
    plan = BackendPlan.of(backend)
    run = plan.prepare(spec())
    assert isinstance(run, BoundStage)
    x = torch.randn(3, 6)
    torch.testing.assert_close(run(x), run.stage.module(x))
    assert compiler.graphs == 1
    assert [str(one) for one in plan.stages] == ["compile"]
    assert all(verdict.passed for verdict in run.verdicts)
    assert capture.replays > 0


@torch.inference_mode()
def test_the_stage_as_it_is_written_is_left_alone_and_the_weights_are_its_own() -> None:
    """Compiled in place, the stage would be compared with itself."""
    stage, compiler = spec(), Compiler(lambda x: 2 * x)
    written = stage.module(torch.ones(3, 6))
    runner = runner_of(stage, compiler)
    torch.testing.assert_close(stage.module(torch.ones(3, 6)), written)
    before = runner.run([torch.ones(3, 6)])[0]
    assert isinstance(stage.module, Stack)
    stage.module.layers[0].linear.weight.mul_(3)
    assert not torch.equal(runner.run([torch.ones(3, 6)])[0], before)


def test_a_compiler_that_changes_a_result_is_refused_by_the_gate() -> None:
    wrong = RegionalCompile("cpu", compiler=Compiler(lambda x: 1.01 * x))
    with pytest.raises(PolicyFault, match="stage stack on backend compile differs"):
        BackendPlan.of(wrong).prepare(spec())


@torch.inference_mode()
def test_nothing_is_compiled_after_warm_up_and_what_would_need_it_runs_as_it_is_written() -> None:
    stage, compiler = spec(), Compiler()
    runner = runner_of(stage, compiler)
    larger = torch.randn(5, 6)
    torch.testing.assert_close(runner.run([larger])[0], stage.module(larger))
    assert (compiler.graphs, runner.left) == (1, 1)
    runner.run([torch.randn(3, 6)])
    assert (compiler.graphs, runner.left) == (1, 1)


@torch.inference_mode()
def test_another_thread_runs_what_was_compiled() -> None:
    runner = runner_of(spec(), Compiler())
    seen: list[Tensor] = []

    def work() -> None:
        with torch.inference_mode():
            seen.extend(runner.run([torch.ones(3, 6)]))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert (len(seen), runner.left) == (1, 0)


@torch.inference_mode()
def test_others_in_the_process_may_compile_after_a_run() -> None:
    runner_of(spec(), Compiler()).run([torch.ones(3, 6)])
    other = Compiler()
    torch.compile(lambda x: x + 1, backend=other)(torch.ones(2))
    assert other.graphs == 1


def failing(_: torch.fx.GraphModule, __: Any) -> Callable[..., Any]:
    raise RuntimeError("no such instruction\nline 7")


def test_a_failed_compilation_is_one_line_before_the_policy_is_loaded_or_falls_back() -> None:
    backend = RegionalCompile("cpu", compiler=failing)
    with pytest.raises(BundleError, match=r"does not compile \(.*no such instruction\): take backend"):
        BackendPlan.of(backend).prepare(spec())
    plan, stage = BackendPlan(whole=OrAuto(backend)), spec()
    assert plan.prepare(stage) is stage.module
    assert str(plan.stages[0]).startswith("eager (not compile: it does not compile (")


def test_it_says_why_it_cannot_compile_on_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    old = RegionalCompile("cpu", gpu=HostGpu("Quadro P6000", (6, 1), device=torch.device("cuda:0")))
    monkeypatch.setattr("wam.models.kernels.availability.unavailable_because", lambda _: None)
    assert old.probe().startswith("the GPU is too old: Quadro P6000, compute capability 6.1, the compiler")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert RegionalCompile("cpu").probe() == (
        "there is no C++ compiler: sudo apt install g++, or set CXX; or take backend eager"
    )
    plan, stage = choose_plan("compile or auto", device="cpu"), spec()
    assert plan.prepare(stage) is stage.module
    assert str(plan.stages[0]).startswith("eager (not compile: there is no C++ compiler")


def test_a_stage_without_regions_is_refused() -> None:
    plain = StageSpec("plain", PolicyPart.EXECUTOR, Stack(), lambda: [StageInputs.of(torch.zeros(3, 6))])
    with pytest.raises(StageUnavailable, match="no regions to compile"):
        RegionalCompile("cpu", compiler=Compiler()).load(plain, plain.examples()[0])


@torch.inference_mode()
@pytest.mark.parametrize("name", ["denoise", "planner_prefill"])
def test_the_stages_of_aha_wam_with_compiled_layers_are_the_stages(name: str) -> None:
    """Weights that a stage holds without registering them are shared too; a prefill is captured in slices."""
    seen = StageCollector()
    random_policy(aha_config.tiny(), device="cpu", dtype=torch.float32, steps=2, plan=seen)
    (stage,) = (one for one in seen.specs if one.name == name)
    backend = CudaGraphs(RegionalCompile("cpu", compiler="eager"), new_capture=FakeCapture)
    given = varied(list(stage.examples())[-1])
    args, kwargs = given.arguments()
    have = BoundStage(stage, backend)(*args, **kwargs)
    assert difference(have, [*torch.utils._pytree.tree_leaves(stage.module(*args, **kwargs))]) < 1e-6


# What is kept between starts


@pytest.fixture
def compiler_state(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the compiler was handed; it has made "compiled" so far."""
    handed: list[bytes] = []

    def load(data: bytes) -> object:
        handed.append(data)
        return object()

    monkeypatch.setattr(torch.compiler, "load_cache_artifacts", load)
    monkeypatch.setattr(torch.compiler, "save_cache_artifacts", lambda: (b"compiled", None))
    return handed


def kept(place: Path, **made_for: str) -> CompileCache:
    return CompileCache(place, made_for={"torch": "2.13.0", "device": "H200", **made_for})


def test_what_was_compiled_is_handed_to_the_next_start_once(
    tmp_path: Path, compiler_state: list[bytes]
) -> None:
    kept(tmp_path / "c").save("denoise")
    following = kept(tmp_path / "c")
    for _ in range(2):
        following.load("denoise")
    following.load("planner_prefill")
    assert (compiler_state, following.told) == ([b"compiled"], {})


@pytest.mark.parametrize(
    ("spoil", "made_for", "told"),
    [
        (lambda place: (place / "denoise.bin").write_bytes(b"comp"), {}, "truncated: 4 of 8 bytes"),
        (lambda place: (place / "denoise.bin").write_bytes(b"c0mpiled"), {}, "damaged"),
        (lambda place: (place / "denoise.json").write_text("{"), {}, "denoise.bin"),
        (lambda place: place.chmod(0o777), {}, "everybody may write to"),
        (lambda _: None, {"device": "RTX 5090"}, "made for other versions, another device"),
    ],
    ids=["truncated", "damaged", "no manifest", "writable by all", "foreign"],
)
def test_what_is_damaged_or_foreign_is_never_handed_over_and_is_replaced(
    tmp_path: Path,
    compiler_state: list[bytes],
    spoil: Callable[[Path], Any],
    made_for: dict[str, str],
    told: str,
) -> None:
    place = tmp_path / "c"
    kept(place).save("denoise")
    spoil(place)
    following = kept(place, **made_for)
    following.load("denoise")
    assert compiler_state == []
    assert told in following.told["denoise"]
    place.chmod(0o700)
    following.save("denoise")
    kept(place, **made_for).load("denoise")
    assert compiler_state == [b"compiled"]


def test_what_the_gate_has_refused_is_forgotten(tmp_path: Path, compiler_state: list[bytes]) -> None:
    cache = kept(tmp_path / "c")
    cache.save("stack")
    RegionalCompile("cpu", cache=cache, compiler=Compiler()).refused(
        spec(), spec().examples()[0], "it differs"
    )
    kept(tmp_path / "c").load("stack")
    assert compiler_state == []


def test_the_versions_that_it_depends_on_are_named() -> None:
    versions = compile_versions("cpu", contract="c" * 64)
    assert versions["torch"] == torch.__version__
    assert versions["contract"] == "c" * 64
    assert versions["device"]
