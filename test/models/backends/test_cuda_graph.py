# SPDX-License-Identifier: Apache-2.0
"""Captured stages: buffers, shapes and the comparison with the eager stage, on a fake capture and on a GPU."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from fake_graphs import FakeCapture, SharedMemory
from torch import Tensor

from wam.bench.policy import synthetic_observation
from wam.core.errors import BundleError, PolicyFault
from wam.core.observation import Instruction
from wam.models.backends.backend import Eager
from wam.models.backends.bound import BoundStage
from wam.models.backends.choice import choose_plan
from wam.models.backends.cuda_graph import MAX_SHAPES, Capture, CudaGraphRunner, CudaGraphs
from wam.models.backends.plan import BackendPlan
from wam.models.backends.stage import PolicyPart, StageInputs, StageSpec
from wam.policies.aha_wam import policy as aha
from wam.policies.bundles import load_policy, make_tiny_bundle
from wam.policies.kind import LoadOptions


class Pair(NamedTuple):
    a: Tensor
    b: Tensor


def sum_and_product(x: Tensor, *, pair: Pair, extra: Tensor | None = None) -> Pair:
    total = x + pair.a + pair.b
    return Pair(total if extra is None else total + extra, pair.a * pair.b)


def stage(function: Callable[..., Any] = sum_and_product, capture: Capture | None = None) -> BoundStage:
    graphs = CudaGraphs(new_capture=lambda: capture or FakeCapture())
    return BoundStage(StageSpec("sums", PolicyPart.EXECUTOR, function), graphs)


def test_a_captured_stage_gives_what_the_eager_one_gives_for_new_values() -> None:
    graphed = stage()
    for value in (1.0, 2.0, -3.0):
        x, pair = torch.full((2, 3), value), Pair(torch.full((2, 3), 2 * value), torch.ones(2, 3))
        have, want = graphed(x, pair=pair), sum_and_product(x, pair=pair)
        assert isinstance(have, Pair)
        torch.testing.assert_close(have, want)
    assert graphed.variants == 1


def test_results_of_an_earlier_call_are_never_written_again() -> None:
    """The reference implementation's compiled prefill overwrites the keys and values of the one before."""
    graphed = stage()
    pair = Pair(torch.ones(4), torch.ones(4))
    first = graphed(torch.zeros(4), pair=pair)
    kept = first.a.clone()
    graphed(torch.full((4,), 9.0), pair=pair)
    assert torch.equal(first.a, kept)


def test_arguments_are_neither_kept_nor_written() -> None:
    graphed = stage()
    x, pair = torch.zeros(4), Pair(torch.ones(4), torch.ones(4))
    graphed(x, pair=pair)
    graphed(torch.full((4,), 9.0), pair=pair)
    assert torch.equal(x, torch.zeros(4))


def test_every_set_of_shapes_is_captured_once_and_an_absent_argument_is_a_set_of_its_own() -> None:
    graphed = stage()
    for size in (4, 5, 4, 5):
        pair = Pair(torch.ones(size), torch.ones(size))
        graphed(torch.zeros(size), pair=pair)
        graphed(torch.zeros(size), pair=pair, extra=torch.ones(size))
    assert graphed.variants == 4


def test_shapes_that_keep_changing_are_refused_by_the_stage_s_name() -> None:
    graphed = stage(lambda x: x + 1)
    for size in range(1, MAX_SHAPES + 1):
        graphed(torch.zeros(size))
    with pytest.raises(PolicyFault, match="stage sums"):
        graphed(torch.zeros(MAX_SHAPES + 1))


def test_shapes_that_no_example_has_run_eagerly_and_nothing_of_the_call_is_kept() -> None:
    """They were captured and judged in the middle of motion, and their arguments were kept on the device."""
    capture = FakeCapture()
    spec = StageSpec("next", PolicyPart.PLANNER, lambda x: x + 1, lambda: [StageInputs.of(torch.ones(2))])
    run = BackendPlan.of(CudaGraphs(new_capture=lambda: capture)).prepare(spec)
    assert isinstance(run, BoundStage)
    judged, replays = len(run.verdicts), capture.replays
    with torch.inference_mode():
        for size in range(3, 3 + MAX_SHAPES + 4):
            x = torch.full((size,), 3.0)
            kept = weakref.ref(x)
            assert torch.equal(run(x), torch.full((size,), 4.0))
            del x
            assert kept() is None
        met = (run.variants, run.unseen, len(run.verdicts), capture.replays)
        assert met == (1, MAX_SHAPES + 4, judged, replays)
        assert torch.equal(run(torch.zeros(2)), torch.ones(2))
    assert capture.replays == replays + 1


def test_graphs_of_planner_and_image_encoder_run_on_two_threads_without_writing_each_other_s_results() -> (
    None
):
    """All stages shared one pool, and each had a lock of its own: 1,877 of 2,000 results were overwritten before they
    were copied out, and nothing noticed, since they were finite."""
    plan = BackendPlan.of(CudaGraphs(new_capture=SharedMemory))
    encode = plan.prepare(StageSpec("encode", PolicyPart.VISION, lambda x: x * 2))
    prefill = plan.prepare(StageSpec("prefill", PolicyPart.PLANNER, lambda x: x + 1))
    x = torch.ones(200_000)
    encode(x)
    prefill(x)
    done = threading.Event()

    def images() -> None:
        while not done.is_set():
            encode(x)

    thread = threading.Thread(target=images)
    thread.start()
    try:
        wrong = sum(not torch.equal(prefill(x), x + 1) for _ in range(300))
    finally:
        done.set()
        thread.join()
    assert wrong == 0


def test_graphs_of_one_part_run_one_after_another_whatever_the_thread() -> None:
    plan = BackendPlan.of(CudaGraphs(new_capture=SharedMemory))
    first = plan.prepare(StageSpec("first", PolicyPart.PLANNER, lambda x: x * 2))
    second = plan.prepare(StageSpec("second", PolicyPart.PLANNER, lambda x: x + 1))
    x = torch.ones(200_000)
    first(x)
    second(x)
    results: list[bool] = []
    threads = [
        threading.Thread(
            target=lambda run=run, want=want: results.extend(torch.equal(run(x), want) for _ in range(150))
        )
        for run, want in ((first, x * 2), (second, x + 1))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(results), all(results)) == (300, True)


def test_a_graph_with_its_inputs_baked_in_is_refused() -> None:
    """The gate compared on the inputs that were recorded, where such a graph is right."""

    def baked(run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        return (lambda: None), run()

    with pytest.raises(PolicyFault, match=r"differs from the eager one by .*random inputs"):
        stage(lambda x: x + 1, baked)(torch.zeros(3))


@pytest.mark.parametrize("wrong", [1.1, float("nan")])
def test_a_graph_that_computes_something_else_is_refused(wrong: float) -> None:
    def lying(run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        result = run()[0] * wrong
        return (lambda: None), [result]

    with pytest.raises(PolicyFault, match="differs from the eager one"):
        stage(lambda x: x + 1, lying)(torch.ones(3))


def test_of_immutable_arguments_the_same_tensor_is_copied_once_and_another_one_again() -> None:
    stage = StageSpec("sums", PolicyPart.EXECUTOR, sum_and_product, immutable=True)
    runner = CudaGraphs(new_capture=FakeCapture).load(
        stage, StageInputs.of(torch.zeros(2), pair=Pair(torch.zeros(2), torch.zeros(2)))
    )
    assert isinstance(runner, CudaGraphRunner)
    runner.bind()
    kept, changing = torch.ones(2), [torch.full((2,), value) for value in (2.0, 3.0, 4.0)]
    for x in changing:
        total, product = runner.run((x, kept, kept))
        torch.testing.assert_close(total, x + 2)
        torch.testing.assert_close(product, torch.ones(2))
    assert runner.copied == 3 + 2
    address = kept.data_ptr()
    del kept
    other = torch.full((2,), 7.0)  # may well lie where the other one lay
    total, _ = runner.run((changing[-1], other, other))
    torch.testing.assert_close(total, changing[-1] + 14, msg=f"addresses {address} and {other.data_ptr()}")


def test_what_cannot_be_captured_runs_eagerly_with_the_reason() -> None:
    def refuses(run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore lines")

    plan = BackendPlan([CudaGraphs(new_capture=lambda: refuses)])
    run = plan.prepare(
        StageSpec("sums", PolicyPart.EXECUTOR, lambda x: x + 1, lambda: [StageInputs.of(torch.zeros(2))])
    )
    torch.testing.assert_close(run(torch.ones(2)), torch.full((2,), 2.0))
    (stage,) = plan.stages
    assert str(stage).startswith(
        "eager (not cuda_graph: it cannot be captured as a graph (CUDA error: operation"
    )


def test_policies_with_1_2_4_and_10_steps_share_a_pool_and_never_overlap(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "b", "aha_wam")
    shared = CudaGraphs(new_capture=SharedMemory)

    def load(steps: int, plan: BackendPlan) -> Any:
        return aha.load(bundle, LoadOptions(planner=False, steps=steps, plan=plan))

    planner = load_with(bundle, BackendPlan.of(Eager()), "cpu").planner
    seen = synthetic_observation(bundle.contract, stamp_ns=0, seed=1)
    with torch.inference_mode():
        context = planner.plan(seen, instruction=Instruction(bundle.contract.instruction))

    def rows(policy: Any) -> np.ndarray:
        return policy.executor.act(policy.executor.route(seen, context=context), proprio=seen.state).rows

    counts = (1, 2, 4, 10)
    want = {steps: rows(load(steps, BackendPlan.of(Eager()))) for steps in counts}
    captured = {steps: load(steps, BackendPlan.of(shared)) for steps in counts}
    right: list[bool] = []
    threads = [
        threading.Thread(
            target=lambda steps=steps: right.extend(
                np.allclose(rows(captured[steps]), want[steps], atol=1e-6) for _ in range(4)
            )
        )
        for steps in counts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 16


def test_backends_are_chosen_by_device_and_name() -> None:
    assert choose_plan("auto", device="cpu").name == "eager"
    assert choose_plan("eager", device="cuda:0", allowed=("eager",)).name == "eager"
    with pytest.raises(BundleError, match="needs a CUDA device"):
        choose_plan("cuda_graph", device="cpu")
    with pytest.raises(BundleError, match="tensorrt"):
        choose_plan("tensorrt", device="cpu")


def test_a_kind_without_graphs_runs_eagerly_unless_graphs_are_asked_for(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "state", "state").directory
    assert load_policy(bundle, planner=False, backend="auto").backends == {"network": "eager"}
    with pytest.raises(BundleError, match="cuda_graph"):
        load_policy(bundle, planner=False, backend="cuda_graph")


def run_policy(loaded: Any, *, prefills: int) -> list[Tensor | np.ndarray]:
    """Return keys, values and rows of some prefills with a chunk each."""
    contract = loaded.contract
    out: list[Any] = []
    for i in range(prefills):
        stamp = i * 64 * contract.control_period_ns
        seen = synthetic_observation(contract, stamp_ns=stamp, seed=2 * i)
        context = loaded.planner.plan(seen, instruction=Instruction(contract.instruction))
        later = stamp + (i % 3) * 16 * contract.control_period_ns
        now = synthetic_observation(contract, stamp_ns=later, seed=2 * i + 1)
        chunk = loaded.executor.act(loaded.executor.route(now, context=context), proprio=now.state)
        out += [context.payload.k.cpu(), context.payload.v.cpu(), chunk.rows]
    return out


def load_with(bundle: Any, plan: BackendPlan, device: str) -> Any:
    return aha.load(bundle, LoadOptions(device=device, steps=3, plan=plan))


def test_aha_wam_through_captured_stages_is_aha_wam(tmp_path: Path) -> None:
    """Warm-up meets every shape: nothing is captured while the policy acts."""
    bundle = make_tiny_bundle(tmp_path / "b", "aha_wam")
    capture = FakeCapture()
    graphed = load_with(bundle, BackendPlan.of(CudaGraphs(new_capture=lambda: capture)), "cpu")
    prefill, route, denoise = (
        graphed.planner._prefill,
        graphed.executor._route,
        graphed.executor._denoise,
    )
    met = (prefill.variants, route.variants, denoise.variants)
    assert met == (7, 1, 1)
    have = run_policy(graphed, prefills=9)
    want = run_policy(load_with(bundle, BackendPlan.of(Eager()), "cpu"), prefills=9)
    for one, other in zip(have, want, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), atol=1e-6)
    assert (prefill.variants, route.variants, denoise.variants) == met
    assert capture.replays > 9 * 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_graphs_give_what_eager_stages_give(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "b", "aha_wam")
    have = run_policy(load_with(bundle, choose_plan("auto", device="cuda"), "cuda"), prefills=9)
    want = run_policy(load_with(bundle, BackendPlan.of(Eager()), "cuda"), prefills=9)
    for one, other in zip(have, want, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), atol=1e-4)
