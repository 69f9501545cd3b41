# SPDX-License-Identifier: Apache-2.0
"""The service `~/retreat` of the running node: it answers when the arm stands again, and everything else goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import ListParameters
from rclpy.lifecycle import TransitionCallbackReturn
from safety_bench import PERIOD_NS, Bench
from std_srvs.srv import Trigger

from wam.runtime.safety.audit_log import audit_files, read_audit

pytestmark = pytest.mark.ros


def stopped(bench: Bench) -> np.ndarray:
    """Lead the left arm down until rows into the table stop it; return the commands of that arm."""
    bench.activate()
    arms = bench.arms
    bench.more_commands(60)
    if not bench.safety.cycle.starts_by_itself:
        assert bench.go().success
        assert arms.wait_for(lambda: bench.safety.cycle.ladder.code == "no_chunk_yet")
    home = np.array([joint.home for joint in arms.robot.joints])
    for _ in range(60):
        # From the newest command, which the measured state here is.
        rows = arms.staying()
        rows[:, 1] += 0.3 * (np.arange(16) - 3) * PERIOD_NS * 1e-9
        arms.publish_chunk(rows)
        bench.more_commands(10)
        if bench.safety.cycle.ladder.stopped:
            break
    assert arms.saw("collision")
    assert arms.measured["left"][1] > home[1] + 0.2
    bench.more_commands(80)
    return np.array(arms.commands["left"])


def test_an_arm_that_is_stopped_above_something_goes_back_on_request_and_says_how_far(
    make_bench: Callable[..., Bench], tmp_path: Path
) -> None:
    bench = make_bench(simulated=False, audit_dir=str(tmp_path))
    came = stopped(bench)
    arms = bench.arms
    answer = bench.call("retreat")
    assert answer.success, answer.message
    assert "left_joint2" in answer.message
    assert "~/clear_fault, then ~/resume" in answer.message
    back = np.array(arms.commands["left"][len(came) :])
    assert back[-1][1] < came[-1][1] - 0.1
    assert (np.diff(back[:, 1]) < 1e-9).all()
    assert bench.safety.cycle.ladder.stopped
    assert arms.wait_for(lambda: arms.saw("retreat_ended"))
    assert bench.call("clear_fault").success
    assert bench.go().success
    bench.safety.trigger_deactivate()
    bench.safety.trigger_cleanup()
    codes = [one.word("code") for one in read_audit(audit_files(tmp_path)).records]
    assert codes.index("collision") < codes.index("retreat_begun") < codes.index("retreat_ended")
    ended = next(
        one for one in read_audit(audit_files(tmp_path)).records if one.word("code") == "retreat_ended"
    )
    assert ended.word("from") == ended.word("to") == "STOP"
    assert len(ended.commands[1]) > 50


def test_the_button_ends_a_retreat_and_clear_and_resume_wait_for_it(make_bench: Callable[..., Bench]) -> None:
    """The service must not keep joint states and buttons from being heard while the arm goes back."""
    bench = make_bench()
    came = stopped(bench)
    arms = bench.arms
    client = arms.create_client(Trigger, "wam_safety/retreat")
    assert arms.wait_for(client.service_is_ready)
    answer = client.call_async(Trigger.Request())
    assert arms.wait_for(lambda: arms.saw("retreat_begun"))
    for name in ("clear_fault", "resume", "retreat"):
        refused = bench.call(name)
        assert not refused.success
    assert "going back" in bench.call("clear_fault").message
    bench.more_commands(100)
    assert not answer.done()
    assert bench.call("estop").success
    assert arms.wait_for(answer.done)
    assert "stopped there: emergency stop" in answer.result().message
    still = len(arms.commands["left"])
    bench.more_commands(60)
    assert np.ptp(np.array(arms.commands["left"][still:]), axis=0).max() < 1e-9
    assert arms.commands["left"][-1][1] < came[-1][1] - 0.005
    refused = bench.call("retreat")
    assert not refused.success
    assert "estop" in refused.message


def test_a_node_that_is_deactivated_answers_a_retreat_and_an_inactive_one_refuses_it(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench()
    stopped(bench)
    arms = bench.arms
    client = arms.create_client(Trigger, "wam_safety/retreat")
    assert arms.wait_for(client.service_is_ready)
    answer = client.call_async(Trigger.Request())
    assert arms.wait_for(lambda: arms.saw("retreat_begun"))
    bench.more_commands(50)
    assert bench.safety.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert arms.wait_for(answer.done)
    assert "deactivated" in answer.result().message
    refused = bench.call("retreat")
    assert not refused.success
    assert "not active" in refused.message


def test_a_node_that_is_shut_down_while_the_arm_goes_back_ends_in_order(
    make_bench: Callable[..., Bench],
) -> None:
    """The service is removed before the arm stands: an answer then would be an error that ends the process."""
    bench = make_bench()
    stopped(bench)
    arms = bench.arms
    client = arms.create_client(Trigger, "wam_safety/retreat")
    assert arms.wait_for(client.service_is_ready)
    client.call_async(Trigger.Request())
    assert arms.wait_for(lambda: arms.saw("retreat_begun"))
    shut = arms.create_client(ChangeState, "wam_safety/change_state")
    assert arms.wait_for(shut.service_is_ready)
    request = ChangeState.Request()
    request.transition.id = Transition.TRANSITION_ACTIVE_SHUTDOWN
    done = shut.call_async(request)
    assert arms.wait_for(done.done)
    assert done.result().success
    parameters = arms.create_client(ListParameters, "wam_safety/list_parameters")
    listed = parameters.call_async(ListParameters.Request())
    assert arms.wait_for(listed.done), "its callbacks go on"
