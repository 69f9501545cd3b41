# SPDX-License-Identifier: Apache-2.0
"""Every bundle that ships still does its task, on the first episodes of an evaluation."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from scipy.stats import binom

from wam.evaluation.closed_loop.during_training import score_bundle
from wam.models.bundle import open_bundle
from wam.policies.shipped import shipped_bundles
from wam.training.closed_loop import Trial, TrialOutcome

pytestmark = [pytest.mark.sim, pytest.mark.slow]

SEEDS = (1000, 1001, 1002)

RATES = {"aha_wam/piper_move_large_object": 25 / 40, "dust/franka_box_to_bowl_near": 31 / 40}
"""Success rates of the model cards; a bundle that is not here succeeds always."""

CHANCE = 0.01
"""Chance that a bundle as good as its card says has fewer successes than are asked for."""


def least_of(name: str) -> int:
    """Return how many successes on `SEEDS` a bundle has that is as good as its card says, but for `CHANCE`."""
    return int(binom.ppf(CHANCE, len(SEEDS), RATES.get(name, 1.0)))


GOOD = [name for name in shipped_bundles() if least_of(name) > 0]
OTHERS = [name for name in shipped_bundles() if least_of(name) == 0]


def play(name: str, seeds: tuple[int, ...]) -> TrialOutcome:
    directory: Path = shipped_bundles()[name]
    contract = open_bundle(directory).contract
    return score_bundle(Trial(directory, contract.task, seeds, contract.trained_on.images))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", GOOD)
def test_a_bundle_that_ships_succeeds_on_the_first_seeds_as_often_as_its_card_says(name: str) -> None:
    """Nodes, tasks, safety chain and followers change; what is told on a model card must stay true.

    Episodes of a policy that sees differ from machine to machine, by the last digits of its network: the DUST had 3 of
    3 on one and 2 of 3 on another with the same code, so which seeds fail cannot be asked for.
    """
    outcome, least = play(name, SEEDS), least_of(name)
    assert outcome.episodes == len(SEEDS)
    assert outcome.successes >= least
    assert outcome.score >= 3.0 * least / len(SEEDS)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", OTHERS)
def test_a_bundle_that_succeeds_now_and_then_does_so_within_the_first_seeds(name: str) -> None:
    """Three episodes say nothing of it; so many are played until one succeeds."""
    most = math.ceil(math.log(CHANCE) / math.log(1.0 - RATES[name]))
    assert any(play(name, (SEEDS[0] + number,)).successes for number in range(most))
