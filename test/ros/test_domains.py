# SPDX-License-Identifier: Apache-2.0
"""Which ROS domains the workers of a test run use."""

from __future__ import annotations

import itertools

import pytest
from domains import TURNS, WORKER, WORKERS, isolate_worker, turns

from wam.ros.environment import DOMAIN, MAX_DOMAIN_ID, OWN_DOMAIN


def of_worker(number: int, workers: int, *, first: int) -> list[int]:
    """Return every domain of a worker, its own one first."""
    environment = {OWN_DOMAIN: str(first), WORKER: f"gw{number}", WORKERS: str(workers)}
    isolate_worker(environment)
    assert environment[OWN_DOMAIN] == environment[DOMAIN]
    return [int(environment[DOMAIN]), *itertools.islice(turns(environment), TURNS)]


@pytest.mark.parametrize("first", [1, 61, MAX_DOMAIN_ID])
@pytest.mark.parametrize("workers", [1, 2, 8, 32])
def test_no_two_workers_share_a_domain_and_no_stack_has_that_of_its_worker(first: int, workers: int) -> None:
    """Stacks counted on from the number of their process: those of two runs at a time met, and refused one another."""
    used = [of_worker(number, workers, first=first) for number in range(workers)]
    assert used[0][0] == first
    for own, *others in used:
        assert own not in others
    for one, other in itertools.combinations(used, 2):
        assert not set(one) & set(other)
    assert all(1 <= domain <= MAX_DOMAIN_ID for domains in used for domain in domains)


def test_a_run_without_workers_keeps_its_domain_and_its_stacks_take_turns_in_others() -> None:
    environment = {OWN_DOMAIN: "7"}
    isolate_worker(environment)
    assert environment[DOMAIN] == "7"
    assert list(itertools.islice(turns(environment), TURNS + 1)) == [*range(8, 8 + TURNS), 8]
