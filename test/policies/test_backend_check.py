# SPDX-License-Identifier: Apache-2.0
"""A policy on a backend: every stage and set of shapes is judged, and a wrong one is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

from wam.core.errors import BundleError
from wam.models.backends.cuda_graph import Capture, CudaGraphs
from wam.models.backends.plan import BackendPlan
from wam.policies.backend_check import check_backend
from wam.policies.bundles import make_tiny_bundle

Replay = tuple[Callable[[], None], Any]


def repeats(run: Callable[[], Any]) -> Replay:
    """Run again at every replay, into the same results, as a graph does."""
    results = run()

    def replay() -> None:
        for old, new in zip(pytree.tree_leaves(results), pytree.tree_leaves(run()), strict=True):
            old.copy_(new)

    return replay, results


def never_runs_again(run: Callable[[], Any]) -> Replay:
    return (lambda: None), run()


def swaps_the_layers(run: Callable[[], Any]) -> Replay:
    """Exchange the first two of what has layers: keys and values of planner and routing."""
    replay, results = repeats(run)

    def swapped() -> None:
        replay()
        for leaf in pytree.tree_leaves(results):
            if leaf.dim() == 4 and len(leaf) > 1:
                leaf.copy_(leaf[torch.tensor([1, 0, *range(2, len(leaf))])])

    return swapped, results


def rounds_to_a_tenth(run: Callable[[], Any]) -> Replay:
    replay, results = repeats(run)

    def coarse() -> None:
        replay()
        for leaf in pytree.tree_leaves(results):
            leaf.copy_((leaf * 10).round() / 10)

    return coarse, results


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "b", "aha_wam").directory


def checked(bundle: Path, capture: Capture) -> Any:
    return check_backend(
        bundle, device="cpu", backend=BackendPlan.of(CudaGraphs(new_capture=lambda: capture))
    )


def test_every_stage_and_every_length_of_the_memory_is_judged(bundle: Path) -> None:
    result = checked(bundle, repeats)
    stages = [verdict.stage for verdict in result.verdicts]
    assert (result.fault, result.backend) == ("", "cuda_graph")
    assert {stage: stages.count(stage) for stage in set(stages)} == {
        "vae_encode": 1,
        "planner_text_context": 1,
        "text_context": 1,
        "proprio_kv": 1,
        "planner_prefill": 7,
        "route": 1,
        "denoise": 1,
    }
    assert all(stage["passed"] for stage in result.as_json()["stages"])


@pytest.mark.parametrize("wrong", [never_runs_again, swaps_the_layers, rounds_to_a_tenth])
def test_a_backend_that_computes_something_else_is_refused_with_the_stage_s_name(
    bundle: Path, wrong: Capture
) -> None:
    """A graph that computed nothing was loaded, and gave the same rows for every image."""
    result = checked(bundle, wrong)
    assert "on backend cuda_graph differs" in result.fault
    assert not result.verdicts[-1].passed
    assert result.verdicts[-1].stage in result.fault


def test_a_kind_without_the_backend_is_refused_where_it_is_asked_for(tmp_path: Path) -> None:
    dust = make_tiny_bundle(tmp_path / "dust", "dust").directory
    with pytest.raises(BundleError, match="cuda_graph"):
        check_backend(dust, device="cpu", backend="cuda_graph")
