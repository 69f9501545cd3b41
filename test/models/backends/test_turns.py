# SPDX-License-Identifier: Apache-2.0
"""A chunk goes before the next slice of a prefill."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import torch
from fake_graphs import SharedMemory
from torch import Tensor, nn

from wam.bench.policy import synthetic_observation
from wam.core.observation import Instruction
from wam.models.backends import cuda_graph
from wam.models.backends.backend import Eager
from wam.models.backends.bound import BoundStage
from wam.models.backends.cuda_graph import CudaGraphs
from wam.models.backends.plan import BackendPlan
from wam.models.backends.stage import PolicyPart, StageSlices, StageSpec
from wam.models.backends.turns import DeviceTurns, turns_of
from wam.policies.aha_wam import policy as aha
from wam.policies.aha_wam.stages import prefill_slices
from wam.policies.bundles import make_tiny_bundle
from wam.policies.kind import LoadOptions


class AddTo(nn.Module):
    """A slice that adds to what the one before gave, and tells when it runs."""

    def __init__(self, number: int, seen: list[int]) -> None:
        super().__init__()
        self.number, self.seen = number, seen

    def forward(self, before: tuple[Tensor, ...], x: Tensor) -> tuple[Tensor, ...]:
        self.seen.append(self.number)
        return ((before[0] if before else x) + self.number,)


def sliced(turns: DeviceTurns, seen: list[int]) -> BoundStage:
    modules = tuple(AddTo(number, seen) for number in (1, 2, 3))
    stage = StageSpec("sums", PolicyPart.PLANNER, lambda x: (x + 6,), slices=StageSlices(modules, turns))
    return BoundStage(stage, CudaGraphs(new_capture=SharedMemory))


def test_slices_give_together_what_the_stage_gives() -> None:
    run = sliced(DeviceTurns(), [])
    for value in (0.0, 5.0):
        (total,) = run(torch.full((2,), value))
        assert torch.equal(total, torch.full((2,), value + 6))


class TellsOfWaiting(threading.Condition):
    """Sets an event when a thread waits; whoever gets the lock afterwards knows that it does."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.set()
        return super().wait(timeout)


def test_no_slice_begins_while_a_chunk_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "LONGEST_WAIT_S", 600.0)
    turns, seen, owner = DeviceTurns(), list[int](), object()
    changed = TellsOfWaiting()
    monkeypatch.setattr(turns, "_changed", changed)
    run = sliced(turns, seen)
    run(torch.zeros(2))
    seen.clear()
    turns.chunk_begins(owner)
    thread = threading.Thread(target=lambda: run(torch.zeros(2)), daemon=True)
    thread.start()
    try:
        assert changed.waited.wait(30)
        assert (seen, turns.waits, thread.is_alive()) == ([], 1, True)
    finally:
        turns.chunk_ended(owner)
    thread.join(30)
    assert not thread.is_alive()
    assert seen == [1, 2, 3]


def test_a_chunk_that_begins_during_a_slice_goes_before_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "LONGEST_WAIT_S", 600.0)
    turns, owner = DeviceTurns(), object()
    changed = TellsOfWaiting()
    monkeypatch.setattr(turns, "_changed", changed)

    class Begins(list[int]):
        """A chunk begins while the first slice runs."""

        armed = False

        def append(self, number: int) -> None:
            super().append(number)
            if self.armed and number == 1:
                turns.chunk_begins(owner)

    seen = Begins()
    run = sliced(turns, seen)
    run(torch.zeros(2))
    seen.clear()
    seen.armed = True
    thread = threading.Thread(target=lambda: run(torch.zeros(2)), daemon=True)
    thread.start()
    try:
        assert changed.waited.wait(30)
        assert (list(seen), thread.is_alive()) == ([1], True)
    finally:
        turns.chunk_ended(owner)
    thread.join(30)
    assert not thread.is_alive()
    assert list(seen) == [1, 2, 3]


def test_an_executor_that_never_ends_its_chunk_does_not_stop_the_planner() -> None:
    turns = DeviceTurns()
    turns.chunk_begins(turns)
    began = time.monotonic()
    turns.let_chunks_pass(until_s=began + 0.05)
    assert time.monotonic() >= began + 0.05


def test_planner_and_executor_of_a_process_share_the_turns_of_a_device() -> None:
    kept = turns_of("cpu")
    assert turns_of(torch.device("cpu")) is kept


def test_a_prefill_of_aha_wam_in_slices_is_the_prefill_and_a_chunk_ends_its_turn(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "b", "aha_wam")
    contexts = []
    for backend in (CudaGraphs(new_capture=SharedMemory), Eager()):
        policy = aha.load(bundle, LoadOptions(steps=1, plan=BackendPlan.of(backend)))
        assert isinstance(policy.planner, aha.AhaPlanner)
        assert isinstance(policy.executor, aha.AhaExecutor)
        layers = len(policy.planner._video.blocks)
        assert len(prefill_slices(policy.planner._video, count=8)) == min(8, layers)
        for step in range(3):
            stamp = step * 64 * bundle.contract.control_period_ns
            seen = synthetic_observation(bundle.contract, stamp_ns=stamp, seed=step)
            context = policy.planner.plan(seen, instruction=Instruction(bundle.contract.instruction))
        contexts.append(context.payload)
        policy.executor.act(policy.executor.route(seen, context=context), proprio=seen.state)
        assert not policy.executor._turns._chunks
    torch.testing.assert_close(contexts[0].k, contexts[1].k, rtol=0, atol=1e-6)
    torch.testing.assert_close(contexts[0].v, contexts[1].v, rtol=0, atol=1e-6)
