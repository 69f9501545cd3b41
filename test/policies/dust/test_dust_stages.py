# SPDX-License-Identifier: Apache-2.0
"""DUST through the stages of a backend: captured, shared, and computed wrongly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_graphs import CountingMemory, SharedMemory, Wrong, WrongBackend, baked, ignored, layers_permuted

from wam.bench.policy import synthetic_observation
from wam.core.errors import PolicyFault
from wam.core.observation import Instruction
from wam.core.policy import LoadedPolicy
from wam.models.backends.bound import BoundStage
from wam.models.backends.cuda_graph import CudaGraphRunner, CudaGraphs
from wam.models.backends.plan import BackendPlan
from wam.policies.bundles import load_policy, make_tiny_bundle
from wam.policies.dust.executor import DustExecutor
from wam.policies.dust.schedule import ActionRule, Kind, SamplerSettings


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "dust", "dust").directory


@pytest.fixture(scope="module")
def eager(directory: Path) -> LoadedPolicy:
    return load_policy(directory, backend="eager")


def graphs() -> BackendPlan:
    return BackendPlan.of(CudaGraphs(new_capture=SharedMemory))


@pytest.fixture(scope="module")
def captured(directory: Path) -> LoadedPolicy:
    return load_policy(directory, backend=graphs())


def executor_of(policy: LoadedPolicy) -> DustExecutor:
    assert isinstance(policy.executor, DustExecutor)
    return policy.executor


def chunk_of(policy: LoadedPolicy, *, seed: int, settings: SamplerSettings | None = None):
    """Return keys, values, rows and what the world model predicts."""
    contract, executor = policy.contract, executor_of(policy)
    if settings is not None:
        executor.configure(settings)
    seen = synthetic_observation(contract, stamp_ns=0, seed=seed)
    assert policy.planner is not None
    policy.planner.reset()  # the version of a context is part of the seed
    context = policy.planner.plan(seen, instruction=Instruction(contract.instruction))
    chunk = executor.act(executor.route(seen, context=context), proprio=seen.state)
    future = executor.prediction
    return (
        context.payload.k.numpy(),
        context.payload.v.numpy(),
        chunk.rows,
        None if future is None else future.embedding,
    )


@pytest.mark.parametrize(
    "settings",
    [
        SamplerSettings(),
        SamplerSettings(q=4),
        SamplerSettings(q=4, future=False),
        SamplerSettings(q=3, rule=ActionRule.START, future=False),
    ],
    ids=["q1", "q4", "q4-actions-only", "start"],
)
def test_captured_evaluations_give_bit_for_bit_what_eager_ones_give(
    eager: LoadedPolicy, captured: LoadedPolicy, settings: SamplerSettings
) -> None:
    """The graphs share one pool, and every replay writes over the results of those that were captured later."""
    for seed in (1, 2):
        have = chunk_of(captured, seed=seed, settings=settings)
        want = chunk_of(eager, seed=seed, settings=settings)
        for one, other in zip(have, want, strict=True):
            np.testing.assert_array_equal(one, other)


def test_only_the_kinds_of_evaluation_that_a_sampler_has_are_prepared(directory: Path) -> None:
    policy = load_policy(directory, backend=graphs(), planner=False)
    stages = executor_of(policy)._stages
    assert set(stages._evaluate) == {Kind.JOINT}
    executor_of(policy).configure(SamplerSettings(q=4, future=False))
    assert set(stages._evaluate) == set(Kind)


def test_within_a_chunk_keys_and_values_are_copied_into_a_graph_once(directory: Path) -> None:
    policy = load_policy(directory, backend=graphs())
    chunk_of(policy, seed=1)
    evaluate = executor_of(policy)._stages._evaluate[Kind.JOINT]
    assert isinstance(evaluate, BoundStage)
    (variant,) = evaluate._variants.values()
    runner = variant._runner
    assert isinstance(runner, CudaGraphRunner)
    before = runner.copied
    chunk_of(policy, seed=2)
    # Four evaluations: action stream (x, q, k, v), noise levels and future each time, keys and values once.
    assert runner.copied - before == 4 * (4 + 1 + 2) + 2


def test_instructions_of_20_lengths_run_eagerly_and_nothing_is_captured_after_loading(
    directory: Path, eager: LoadedPolicy
) -> None:
    """The number of feature rows follows the words. Every new one was captured and judged while the robot moved, and
    the 17th ended the policy."""
    memory = CountingMemory()
    captured = load_policy(directory, backend=BackendPlan.of(CudaGraphs(new_capture=lambda: memory)))
    loaded = memory.captures
    assert loaded > 0
    shapes = set()
    for words in range(1, 21):
        instruction = Instruction(" ".join(["cup"] * words))
        rows = []
        for policy in (captured, eager):
            executor = executor_of(policy)
            executor.configure(SamplerSettings())
            seen = synthetic_observation(policy.contract, stamp_ns=0, seed=3)
            assert policy.planner is not None
            policy.planner.reset()  # the version of a context is part of the seed
            context = policy.planner.plan(seen, instruction=instruction)
            shapes.add(context.payload.k.shape)
            rows.append(executor.act(executor.route(seen, context=context), proprio=seen.state).rows)
        np.testing.assert_array_equal(*rows)
    assert (len(shapes), memory.captures) == (20, loaded)


FAULTS = {
    "image features of fixed pixels": ("image_features", baked(0)),
    "a prompt that became a constant": ("language", baked(1)),
    "features left out": ("projection", ignored(0)),
    "state left out": ("state_tokens", ignored(0)),
    "a noise level that became a constant": ("action_prefix", baked(2)),
    "layers of the keys in another order": ("evaluate_joint", layers_permuted(5)),
    "layers of the values in another order": ("evaluate_joint", layers_permuted(6)),
    "future embedding left out": ("evaluate_joint", ignored(7)),
    "the future's noise level became a constant": ("evaluate_joint", baked(8)),
    "keys of the action stream left out": ("evaluate_joint", ignored(2)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_backend_that_computes_something_else_is_refused(directory: Path, fault: str) -> None:
    stage, wrong = FAULTS[fault]
    backend = WrongBackend(stage, wrong)
    with pytest.raises(PolicyFault, match=f"stage {stage} on backend wrong"):
        load_policy(directory, backend=BackendPlan.of(backend))
    assert backend.reasons


def test_where_the_choice_is_free_a_wrong_stage_runs_eagerly_and_says_why(
    directory: Path, eager: LoadedPolicy
) -> None:
    wrong: Wrong = baked(4)
    policy = load_policy(directory, backend=BackendPlan([WrongBackend("evaluate_joint", wrong)]))
    assert policy.backends["language"] == "wrong"
    assert policy.backends["evaluate_joint"].startswith("eager (not wrong: result")
    want = chunk_of(eager, seed=5, settings=executor_of(policy).settings)
    np.testing.assert_array_equal(chunk_of(policy, seed=5)[2], want[2])


def test_merged_projections_are_those_of_the_checkpoint(case_of) -> None:
    case = case_of()
    plain = case.velocities()
    case.head.merge_projections()
    merged = case.velocities(kv=None)
    torch.testing.assert_close(merged.action, plain.action, rtol=0, atol=1e-6)
    torch.testing.assert_close(merged.vision, plain.vision, rtol=0, atol=1e-6)


def test_reports_name_every_stage_with_what_runs_it(eager: LoadedPolicy) -> None:
    named = dict(eager.backends)
    assert named.pop("image_preparation").startswith("host (")
    assert named.pop("schedule").startswith("eager (")
    assert {name for name in named if name.startswith("evaluate_")} >= {"evaluate_joint"}
    assert set(named.values()) == {"eager"}
    assert replace(eager, stages=()).backends == {}
