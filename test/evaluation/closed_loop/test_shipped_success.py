# SPDX-License-Identifier: Apache-2.0
"""Every bundle that ships still does its task, on the first episodes of an evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

from wam.evaluation.closed_loop.during_training import score_bundle
from wam.models.bundle import open_bundle
from wam.policies.shipped import shipped_bundles
from wam.training.closed_loop import Trial, TrialOutcome

pytestmark = [pytest.mark.sim, pytest.mark.slow]

SEEDS = (1000, 1001, 1002)


@pytest.mark.parametrize("name", shipped_bundles())
def test_a_bundle_that_ships_succeeds_on_the_first_three_seeds_of_an_evaluation(name: str) -> None:
    """Nodes, tasks, safety chain and followers change; what is told on a model card must stay true."""
    directory: Path = shipped_bundles()[name]
    contract = open_bundle(directory).contract
    outcome = score_bundle(Trial(directory, contract.task, SEEDS, contract.trained_on.images))
    assert outcome == TrialOutcome(episodes=3, successes=3, score=3.0)
