# SPDX-License-Identifier: Apache-2.0
"""Which tasks a policy is taken for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wam.core.contract import CameraContract, TrainedOn
from wam.core.errors import ContractMismatch
from wam.core.fakes import fake_contract
from wam.runtime.policy import require_task

CONTRACT = fake_contract(
    joint_names=("joint1",), cameras=(CameraContract("head", 8, 8),), control_period_ns=33_000_000
)


def test_a_policy_is_refused_for_a_task_that_it_was_not_trained_for_unless_any_is_wanted() -> None:
    carries = replace(CONTRACT, task="carry")
    require_task(carries, "carry", policy="mine")
    require_task(carries, "fold", policy="mine", any_task=True)
    with pytest.raises(
        ContractMismatch,
        match=r"policy mine was trained for task carry.*got 'fold'; allowed: carry.*--any-task",
    ):
        require_task(carries, "fold", policy="mine")


def test_a_policy_that_states_no_task_is_taken_for_any() -> None:
    require_task(CONTRACT, "fold", policy="mine")


def test_the_seeds_of_the_data_are_those_from_the_first_to_the_last() -> None:
    data = TrainedOn("data", 60, (0, 61), "fast")
    assert [data.has_seed(seed) for seed in (0, 61, 62)] == [True, True, False]
    assert not TrainedOn().has_seed(0)
