# SPDX-License-Identifier: Apache-2.0
"""The operator of a soak does what the safety node asks a person for."""

from __future__ import annotations

import pytest

from wam.bench.soak.operator import OperatorAct, operator_act
from wam.core.verdict import Ladder


@pytest.mark.parametrize("code", ["estop", "limit_violation", "estop_waiting"])
def test_a_stop_is_cleared_whatever_its_cause(code: str) -> None:
    assert operator_act(Ladder.STOP, code) is OperatorAct.CLEAR


def test_an_emergency_stop_that_was_not_heard_since_the_activation_is_pressed_and_released() -> None:
    """After an emergency stop by topic, a safety node that was off and on waited for it, and the soak gave up."""
    assert operator_act(Ladder.HOLD, "estop_waiting") is OperatorAct.PRESS


def test_an_arm_that_waits_to_be_let_go_is_let_go_and_one_that_recovers_is_left_alone() -> None:
    assert operator_act(Ladder.HOLD, "awaiting_resume") is OperatorAct.RESUME
    assert operator_act(Ladder.HOLD, "no_chunk") is None
    assert operator_act(Ladder.NOMINAL, "") is None
