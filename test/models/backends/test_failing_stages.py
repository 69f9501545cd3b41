# SPDX-License-Identifier: Apache-2.0
"""A backend that fails after loading: no result of that call, the stage as it is written from then on, quarantine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from fake_graphs import FakeCapture
from torch import Tensor

from wam.core.errors import BundleError, StageFailed
from wam.models.backends.backend import EagerRunner, Runner, StageUnavailable
from wam.models.backends.bound import BoundStage
from wam.models.backends.cuda_graph import CudaGraphs
from wam.models.backends.plan import BackendPlan
from wam.models.backends.quarantine import Quarantine
from wam.models.backends.stage import PolicyPart, StageInputs, StageSpec

MADE_FOR = {"torch": "2.13", "device": "a GPU"}


class _Failing(EagerRunner):
    def __init__(self, stage: StageSpec, inputs: StageInputs, backend: Breakable) -> None:
        super().__init__(stage, inputs)
        self._backend = backend

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        if self._backend.error is not None:
            raise self._backend.error
        return super().run(tensors)


class Breakable:
    """Computes as a stage is written, until it breaks."""

    name = "breakable"
    only_examples = True

    def __init__(self, *, keeps: bool = False) -> None:
        self.error: Exception | None = None
        self.told: list[tuple[object, str]] = []
        self._keeps = keeps

    def probe(self) -> str:
        return ""

    def build(self, stage: StageSpec) -> None:
        pass

    def load(self, stage: StageSpec, inputs: StageInputs) -> Runner:
        return _Failing(stage, inputs, self)

    def refused(self, stage: StageSpec, inputs: StageInputs, reason: str) -> bool:
        self.told.append((inputs.key, reason))
        return self._keeps


def double(x: Tensor) -> Tensor:
    if bool((x == 13).any()):
        raise IndexError("no such token")
    return 2 * x


def spec() -> StageSpec:
    def examples() -> list[StageInputs]:
        return [StageInputs.of(torch.ones(size)) for size in (2, 3)]

    return StageSpec("double", PolicyPart.EXECUTOR, double, examples)


def planned(backend: Breakable, place: Path | None = None) -> tuple[BackendPlan, BoundStage]:
    plan = BackendPlan((backend,), quarantine=Quarantine(place, made_for=MADE_FOR))
    run = plan.prepare(spec())
    assert isinstance(run, BoundStage)
    return plan, run


def test_a_failure_gives_no_result_and_the_next_call_runs_as_the_stage_is_written() -> None:
    """The error of a runtime came out of the node's worker, which ended: the robot stood until somebody came."""
    backend = Breakable()
    plan, run = planned(backend)
    assert [str(one) for one in plan.stages] == ["breakable"]
    backend.error = RuntimeError("the driver has gone\nand a page of advice")
    with pytest.raises(
        StageFailed, match=r"stage double failed on backend breakable \(the driver has gone\)"
    ) as told:
        run(torch.ones(3))
    assert told.value.stage == "double"
    assert "\n" not in str(told.value)
    for size in (2, 3, 3):
        assert torch.equal(run(torch.ones(size)), torch.full((size,), 2.0))
    assert [str(one) for one in plan.stages] == ["eager (breakable failed while it ran: the driver has gone)"]
    assert backend.told == [(StageInputs.of(torch.ones(3)).key, "the driver has gone")]


def test_what_failed_is_not_taken_at_the_next_start_and_the_reason_names_what_to_remove(
    tmp_path: Path,
) -> None:
    backend = Breakable()
    _, run = planned(backend, tmp_path)
    backend.error = RuntimeError("the driver has gone")
    with pytest.raises(StageFailed):
        run(torch.ones(3))
    healthy = Breakable()
    plan = BackendPlan((healthy,), quarantine=Quarantine(tmp_path, made_for=MADE_FOR))
    assert plan.prepare(spec()) is double
    note = tmp_path / "breakable-double.json"
    assert (
        f"it failed before while it ran (the driver has gone); to take it again: rm {note}"
        in plan.stages[0].reason
    )
    named = BackendPlan(whole=healthy, quarantine=Quarantine(tmp_path, made_for=MADE_FOR))
    with pytest.raises(BundleError, match="failed before while it ran"):
        named.prepare(spec())
    note.unlink()
    assert planned(healthy, tmp_path)[0].stages[0].backend == "breakable"


def test_a_failure_with_other_versions_or_a_damaged_note_says_nothing(tmp_path: Path) -> None:
    Quarantine(tmp_path, made_for={**MADE_FOR, "torch": "2.12"}).add("double", "breakable", "gone")
    assert planned(Breakable(), tmp_path)[0].stages[0].backend == "breakable"
    (tmp_path / "breakable-double.json").write_text("{")
    assert planned(Breakable(), tmp_path)[0].stages[0].backend == "breakable"


def test_a_backend_that_keeps_its_own_quarantine_needs_no_second_one(tmp_path: Path) -> None:
    backend = Breakable(keeps=True)
    _, run = planned(backend, tmp_path)
    backend.error = RuntimeError("gone")
    with pytest.raises(StageFailed):
        run(torch.ones(2))
    assert list(tmp_path.iterdir()) == []


def test_want_of_memory_moves_the_stage_and_puts_nothing_into_quarantine(tmp_path: Path) -> None:
    backend = Breakable()
    _, run = planned(backend, tmp_path)
    backend.error = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(StageFailed, match="out of memory"):
        run(torch.ones(2))
    assert torch.equal(run(torch.ones(2)), torch.full((2,), 2.0))
    assert (backend.told, list(tmp_path.iterdir())) == ([], [])


def test_inputs_that_the_stage_itself_does_not_take_are_no_fault_of_the_backend(tmp_path: Path) -> None:
    backend = Breakable()
    plan, run = planned(backend, tmp_path)
    with pytest.raises(IndexError, match="no such token"):
        run(torch.full((2,), 13.0))
    assert [str(one) for one in plan.stages] == ["breakable"]
    assert (backend.told, list(tmp_path.iterdir())) == ([], [])


def test_a_captured_stage_whose_replay_fails_lets_the_captured_backend_know(tmp_path: Path) -> None:
    inner = Breakable()
    graphs = CudaGraphs(inner, name="breakable", new_capture=FakeCapture)  # type: ignore[arg-type]
    plan = BackendPlan((graphs,), quarantine=Quarantine(tmp_path, made_for=MADE_FOR))
    run = plan.prepare(spec())
    inner.error = RuntimeError("an illegal instruction was encountered")
    with torch.inference_mode(), pytest.raises(StageFailed, match="an illegal instruction"):
        run(torch.ones(3))
    assert len(inner.told) == 1
    assert json.loads((tmp_path / "breakable-double.json").read_text())["reason"].startswith("an illegal")


def test_a_backend_that_fails_while_it_is_judged_leaves_the_stage_as_it_is_written() -> None:
    """Any other error than the backends' own ended the loading of a policy that may choose."""

    class Fragile(Breakable):
        def load(self, stage: StageSpec, inputs: StageInputs) -> Runner:
            self.error = MemoryError("no more contexts")
            return super().load(stage, inputs)

    backend = Fragile()
    plan = BackendPlan((backend,))
    assert plan.prepare(spec()) is double
    assert "it failed while it was compared with the eager stage (no more contexts)" in plan.stages[0].reason
    assert [reason for _, reason in backend.told] == ["no more contexts"]
    with pytest.raises(StageUnavailable, match="no more contexts"):
        BoundStage(spec(), Fragile()).meet_examples()
