# SPDX-License-Identifier: Apache-2.0
"""Exported stages: they compute what the eager ones do, and everything that does not fit falls back with its reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wam.core.errors import BundleError, PolicyFault, StageFailed
from wam.models.backends.artefacts import ArtefactStore
from wam.models.backends.backend import StageUnavailable
from wam.models.backends.onnx_export import OnnxExporter, export_versions
from wam.models.backends.onnx_runtime import OnnxRuntime
from wam.models.backends.plan import BackendPlan
from wam.models.backends.stage import EulerLoop, PolicyPart, StageInputs, StageSpec

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (requirements/model.txt)")
onnx = pytest.importorskip("onnx", reason="onnx is not installed (requirements/export.txt)")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (requirements/export.txt)")

# The exporter imports for many seconds on a busy machine.
pytestmark = pytest.mark.timeout(600)


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


def loop(*, steps: int = 4, seed: int = 0) -> EulerLoop:
    torch.manual_seed(seed)
    return EulerLoop(Velocity(), [1 - i / steps for i in range(steps + 1)]).requires_grad_(False)


def inputs(*, steps: int = 4, seed: int = 1) -> StageInputs:
    torch.manual_seed(seed)
    return StageInputs.of(
        torch.randn(1, 6), torch.randn(steps, 8), Pair(torch.randn(1, 8), torch.randn(1, 6))
    )


def spec(module: nn.Module | Callable[..., Any], *, steps: int = 4) -> StageSpec:
    return StageSpec("denoise", PolicyPart.EXECUTOR, module, lambda: [inputs(steps=steps)])


def store(place: Path, *, contract: str = "a" * 64, torch_version: str | None = None) -> ArtefactStore:
    versions = export_versions()
    return ArtefactStore(
        contract, (place,), versions={**versions, "torch": torch_version or versions["torch"]}
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("exported")
    exporter = OnnxExporter(store(place))
    BackendPlan.of(exporter).prepare(spec(loop()))
    assert exporter.written == ["denoise.0"]
    return place


@pytest.fixture
def place(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "place"))


def fallen_back(place: Path, module: nn.Module | None = None, **store_args: Any) -> str:
    """Return why the stage runs eagerly where the suite may choose."""
    module = module or loop()
    plan = BackendPlan((OnnxRuntime(store(place, **store_args)),))
    assert plan.prepare(spec(module)) is module
    assert plan.stages[0].backend == "eager"
    return plan.stages[0].reason


@pytest.mark.parametrize("steps", [4, 1, 10])
def test_all_steps_in_one_call_give_what_eager_steps_give_whatever_their_number(
    place: Path, steps: int
) -> None:
    module = loop(steps=steps)
    plan = BackendPlan.of(OnnxRuntime(store(place)))
    run = plan.prepare(spec(module, steps=steps))
    for seed in range(3):
        args, _ = inputs(steps=steps, seed=seed).arguments()
        torch.testing.assert_close(run(*args), module(*args), atol=1e-5, rtol=1e-5)
    assert [str(one) for one in plan.stages] == ["onnxruntime"]
    assert all(verdict.passed for verdict in plan.verdicts)


def test_a_graph_holds_no_weights_of_its_own(place: Path) -> None:
    weights = json.loads((place / "denoise.0.json").read_text())["weights"]
    assert set(weights.values()) >= {"step.first.weight", "step.second.weight"}


def test_shapes_that_no_example_has_are_left_to_the_eager_stage(place: Path) -> None:
    module = loop()
    run = BackendPlan.of(OnnxRuntime(store(place))).prepare(spec(module))
    args = (torch.ones(2, 6), torch.ones(4, 8), Pair(torch.ones(2, 8), torch.ones(2, 6)))
    torch.testing.assert_close(run(*args), module(*args))
    assert run.unseen == 1


def test_a_truncated_graph_falls_back_by_its_size(place: Path) -> None:
    graph = place / "denoise.0.onnx"
    graph.write_bytes(graph.read_bytes()[:-100])
    assert "is truncated" in fallen_back(place)


def test_a_graph_with_one_other_byte_falls_back_by_its_digest(place: Path) -> None:
    graph = place / "denoise.0.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(bytes(data))
    assert "its SHA-256 is another" in fallen_back(place)


def test_a_manifest_that_is_no_json_falls_back(place: Path) -> None:
    (place / "denoise.0.json").write_text("{")
    assert "cannot be read" in fallen_back(place)


def test_a_graph_of_another_contract_another_version_or_other_weights_falls_back_with_both_named(
    place: Path,
) -> None:
    assert "for contract aaaaaaaaaaaa, this is bbbbbbbbbbbb" in fallen_back(place, contract="b" * 64)
    assert "this is opset 23, torch 9.9.9" in fallen_back(place, torch_version="9.9.9")
    assert "was exported for parameters" in fallen_back(place, loop(seed=7))


def test_a_graph_that_loads_and_does_not_run_falls_back_with_what_onnx_runtime_says(place: Path) -> None:
    """Its own exceptions came out of the first run, and ended the loading of a policy that may choose."""
    model = onnx.load_from_string((place / "denoise.0.onnx").read_bytes(), format="protobuf")
    gather = next(node for node in model.graph.node if node.op_type == "Loop").attribute[0].g.node[0]
    assert gather.op_type == "Gather"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(99), "beyond"))
    gather.input[1] = "beyond"
    weights = json.loads((place / "denoise.0.json").read_text())["weights"]
    store(place).write("denoise.0", loop(), graph=model.SerializeToString(), weights=weights)
    reason = fallen_back(place)
    assert "does not run its graph" in reason
    assert "Gather" in reason
    with pytest.raises(BundleError, match="does not run its graph"):
        BackendPlan.of(OnnxRuntime(store(place))).prepare(spec(loop()))


def test_every_reason_names_the_command_that_helps(place: Path, tmp_path: Path) -> None:
    for reason in (fallen_back(tmp_path / "nothing"), fallen_back(place, contract="b" * 64)):
        assert "wam export POLICY" in reason


def test_a_graph_that_takes_an_input_for_a_constant_is_refused_and_stays_so(place: Path) -> None:
    """An export that bakes in what it saw agrees on those inputs; it must not be judged anew at every start."""
    model = onnx.load_from_string((place / "denoise.0.onnx").read_bytes(), format="protobuf")
    body = next(node for node in model.graph.node if node.op_type == "Loop").attribute[0].g
    fixed_v = model.graph.input[3].name
    (_, _, pair), _ = inputs().arguments()
    model.graph.initializer.append(onnx.numpy_helper.from_array(pair.v.numpy(), "baked"))
    for node in (*model.graph.node, *body.node):
        for i, name in enumerate(node.input):
            if name == fixed_v:
                node.input[i] = "baked"
    mine = store(place)
    weights = json.loads((place / "denoise.0.json").read_text())["weights"]
    mine.write("denoise.0", loop(), graph=model.SerializeToString(), weights=weights)
    assert "differs from the eager one" in fallen_back(place)
    assert "was refused before" in fallen_back(place)
    with pytest.raises(BundleError, match="was refused before"):
        BackendPlan.of(OnnxRuntime(mine)).prepare(spec(loop()))


def test_a_backend_that_was_asked_for_by_name_is_refused_not_replaced(place: Path) -> None:
    graph = store(place)
    with pytest.raises(BundleError, match=r"denoise cannot run on backend onnxruntime: .*for contract"):
        BackendPlan.of(OnnxRuntime(store(place, contract="b" * 64))).prepare(spec(loop()))
    assert BackendPlan.of(OnnxRuntime(graph)).prepare(spec(loop())) is not None


def test_an_exporter_that_fails_is_named_with_its_reason(tmp_path: Path) -> None:
    def fails() -> None:
        raise StageUnavailable("its export failed: no operator for aten.complex")

    with pytest.raises(BundleError, match="no operator for aten"):
        BackendPlan.of(OnnxRuntime(store(tmp_path), builder=fails)).prepare(spec(loop()))


def test_what_is_missing_is_exported_where_the_backend_was_asked_for_by_name(
    exported: Path, tmp_path: Path
) -> None:
    def copies() -> None:
        shutil.copytree(exported, tmp_path / "later")

    backend = OnnxRuntime(store(tmp_path / "later"), builder=copies)
    plan = BackendPlan.of(backend)
    plan.prepare(spec(loop()))
    assert [one.backend for one in plan.stages] == ["onnxruntime"]


def test_without_onnx_runtime_stages_run_as_they_are_written(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wam.models.backends.onnx_runtime.missing", lambda: "onnxruntime is not installed")
    assert "onnxruntime is not installed" in fallen_back(place)


def test_a_choice_for_a_stage_that_the_policy_does_not_have_is_refused() -> None:
    plan = BackendPlan((), named={"denoize": None})
    plan.prepare(spec(loop()))
    with pytest.raises(BundleError, match="denoize"):
        plan.require_all_met()


def test_a_graph_that_fails_while_it_runs_is_the_one_that_is_not_loaded_again(tmp_path: Path) -> None:
    """With several sets of shapes the graph that was loaded last was noted, whichever had failed."""
    module = loop()
    sizes = [
        inputs(seed=1),
        StageInputs.of(torch.randn(2, 6), torch.randn(4, 8), Pair(torch.ones(2, 8), torch.ones(2, 6))),
    ]
    two = StageSpec("denoise", PolicyPart.EXECUTOR, module, lambda: sizes)
    mine = store(tmp_path)
    BackendPlan.of(OnnxExporter(mine)).prepare(two)
    backend = OnnxRuntime(mine)
    plan = BackendPlan((backend,))
    run = plan.prepare(two)
    assert [one.backend for one in plan.stages] == ["onnxruntime"]
    fails = run._variants[sizes[0].key]._runner

    def run_fails(*_: Any) -> Any:
        raise RuntimeError("Non-zero status code returned while running Loop node")

    fails._session = SimpleNamespace(run=run_fails)
    args, _ = sizes[0].arguments()
    with pytest.raises(StageFailed, match="Non-zero status code"):
        run(*args)
    torch.testing.assert_close(run(*args), module(*args))
    with pytest.raises(StageUnavailable, match="was refused before"):
        mine.read("denoise.0", module)
    assert mine.read("denoise.1", module).graph
    assert "was refused before (Non-zero status" in fallen_back(tmp_path, module)


def test_a_backend_that_computes_something_else_by_name_is_a_fault_of_the_policy(place: Path) -> None:
    class Doubling(OnnxRuntime):
        def load(self, stage: StageSpec, inputs: StageInputs) -> Any:
            runner = super().load(stage, inputs)
            run = runner.run
            runner.run = lambda tensors: [2 * one for one in run(tensors)]  # type: ignore[method-assign]
            return runner

    with pytest.raises(PolicyFault, match="stage denoise on backend onnxruntime"):
        BackendPlan.of(Doubling(store(place))).prepare(spec(loop()))
