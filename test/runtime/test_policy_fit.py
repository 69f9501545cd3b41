# SPDX-License-Identifier: Apache-2.0
"""A policy is refused on a robot that does not have what it needs, or would not wait for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wam.core.clock import NS_PER_S
from wam.core.errors import ContractMismatch
from wam.devices.loader import load_robot
from wam.runtime.policy import PolicyRequest, load_fake, require_fit

ROBOT = load_robot("piper")
CONTRACT = load_fake(PolicyRequest("fake", planner=False, executor=False), robot=ROBOT).contract
TIMEOUT_ROWS = ROBOT.safety.chunk_timeout_ns * 30 // NS_PER_S


def test_a_policy_that_executes_rows_for_as_long_as_the_robot_waits_for_a_chunk_is_refused() -> None:
    """Such a policy was held before every chunk, and nothing said why."""
    contract = replace(CONTRACT, execute_rows=TIMEOUT_ROWS + 1)
    with pytest.raises(ContractMismatch, match=r"chunk_timeout of 0\.\d+ s"):
        require_fit(contract, ROBOT)


def test_a_policy_that_executes_fewer_rows_is_taken() -> None:
    require_fit(replace(CONTRACT, execute_rows=TIMEOUT_ROWS - 1), ROBOT)


def test_a_policy_that_needs_another_joint_is_refused() -> None:
    contract = replace(CONTRACT, action_joints=("elbow",), state_joints=("elbow",))
    with pytest.raises(ContractMismatch, match="state joint elbow"):
        require_fit(contract, ROBOT)
