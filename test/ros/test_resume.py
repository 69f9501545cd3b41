# SPDX-License-Identifier: Apache-2.0
"""Who lets an arm of hardware move: nobody but an operator, after activation and after every STOP."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from safety_bench import Bench

from wam.core.ladder import finding

pytestmark = pytest.mark.ros


def test_a_real_arm_moves_only_after_a_go_and_a_reset_is_none(make_bench: Callable[..., Bench]) -> None:
    """clear_fault went on with the motion within 49 ms, and activation began with the first chunk."""
    bench = make_bench(simulated=False)
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("awaiting_resume"))
    bench.more_commands(60)
    assert np.ptp(np.array(arms.commands["left"]), axis=0).max() < 1e-9
    assert bench.call("resume").success
    assert arms.wait_for(lambda: arms.saw("recovered"))
    assert bench.call("estop").success
    assert arms.wait_for(lambda: arms.saw("estop"))
    answer = bench.call("resume")
    assert not answer.success
    assert "clear_fault" in answer.message
    bench.more_commands(100)
    answer = bench.call("clear_fault")
    assert answer.success, answer.message
    assert "resume" in answer.message
    still = len(arms.commands["left"])
    bench.more_commands(60)
    assert np.ptp(np.array(arms.commands["left"][still:]), axis=0).max() < 1e-9
    arms.events.clear()
    assert bench.call("resume").success
    assert arms.wait_for(lambda: arms.saw("recovered"))


def test_an_inactive_node_is_not_resumed(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(simulated=False)
    bench.safety.trigger_configure()
    answer = bench.call("resume")
    assert not answer.success
    assert "not active" in answer.message


def test_no_go_is_kept_for_an_emergency_stop_that_is_not_armed(make_bench: Callable[..., Bench]) -> None:
    """The answer was yes, and the first false of the button set the arm in motion, however much later."""
    bench = make_bench(simulated=False)
    bench.activate()
    arms, cycle = bench.arms, bench.safety.cycle
    assert cycle is not None
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("awaiting_resume"))
    cycle.raise_cause(finding("estop_waiting"), of="desk")
    answer = bench.call("resume")
    assert not answer.success
    assert "has not said false" in answer.message
    cycle.withdraw_cause("estop_waiting", of="desk")
    bench.more_commands(60)
    assert np.ptp(np.array(arms.commands["left"]), axis=0).max() < 1e-9
    assert bench.call("resume").success
    assert arms.wait_for(lambda: arms.saw("recovered"))


def test_a_go_lasts_until_the_node_is_deactivated(make_bench: Callable[..., Bench]) -> None:
    """A second activation went on with the next chunk."""
    bench = make_bench(simulated=False)
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("awaiting_resume"))
    bench.more_commands(60)
    assert bench.call("resume").success
    assert arms.wait_for(lambda: arms.saw("recovered"))
    bench.safety.trigger_deactivate()
    arms.events.clear()
    still = len(arms.commands["left"])
    bench.safety.trigger_activate()
    assert arms.wait_for(lambda: arms.saw("awaiting_resume"))
    bench.more_commands(60)
    assert np.ptp(np.array(arms.commands["left"][still + 1 :]), axis=0).max() < 1e-9
