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
    assert bench.go().success
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
    assert bench.go().success
    assert arms.wait_for(lambda: arms.saw("recovered"))


def test_no_go_is_given_before_the_policy_sends_chunks(make_bench: Callable[..., Bench]) -> None:
    """An operator who called ~/resume while the policy loaded saw the arm start by itself when it had, much later."""
    bench = make_bench(simulated=False)
    bench.activate()
    arms = bench.arms
    assert arms.wait_for(lambda: arms.saw("awaiting_resume"))
    answer = bench.call("resume")
    assert not answer.success
    assert "no chunk has come in the last 5 s" in answer.message
    arms.sending = True
    bench.more_commands(60)
    assert np.ptp(np.array(arms.commands["left"]), axis=0).max() < 1e-9
    assert bench.go().success
    assert arms.wait_for(lambda: arms.saw("recovered"))


def test_a_dry_run_does_not_say_that_the_arm_may_move(make_bench: Callable[..., Bench]) -> None:
    """It said so while nothing was sent: an operator believes that the arms are armed."""
    bench = make_bench(simulated=False, dry_run=True)
    bench.activate()
    bench.arms.sending = True
    answer = bench.go()
    assert answer.success
    assert answer.message.startswith("dry run: nothing is sent, nothing moves")


def test_the_end_of_a_permission_is_told_with_its_cause(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log went back to awaiting_resume, and nothing in it said why."""
    bench = make_bench(simulated=False)
    bench.activate()
    arms, said = bench.arms, []
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("awaiting_resume"))
    assert bench.go().success
    assert arms.wait_for(lambda: arms.saw("recovered"))
    logger = bench.safety.get_logger()
    monkeypatch.setattr(logger, "warning", lambda text, **_: said.append(text))
    monkeypatch.setattr(bench.safety, "get_logger", lambda: logger)
    arms.events.clear()
    assert bench.call("estop").success
    assert arms.wait_for(lambda: arms.saw("estop"))
    assert bench.call("clear_fault").success
    assert arms.wait_for(lambda: arms.saw("awaiting_resume"))
    assert [text for text in said if text.startswith("the permission of ~/resume has ended: ")]


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
    assert bench.go().success
    assert arms.wait_for(lambda: arms.saw("recovered"))


def test_a_go_lasts_until_the_node_is_deactivated(make_bench: Callable[..., Bench]) -> None:
    """A second activation went on with the next chunk."""
    bench = make_bench(simulated=False)
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("awaiting_resume"))
    bench.more_commands(60)
    assert bench.go().success
    assert arms.wait_for(lambda: arms.saw("recovered"))
    bench.safety.trigger_deactivate()
    arms.events.clear()
    still = len(arms.commands["left"])
    bench.safety.trigger_activate()
    assert arms.wait_for(lambda: arms.saw("awaiting_resume"))
    bench.more_commands(60)
    assert np.ptp(np.array(arms.commands["left"][still + 1 :]), axis=0).max() < 1e-9
