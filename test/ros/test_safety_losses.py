# SPDX-License-Identifier: Apache-2.0
"""The safety node over real DDS: stops, losses, foreign publishers and messages that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (make setup)")
pytest.importorskip("wam_msgs.msg", reason="wam_msgs is not built (make setup)")

from safety_bench import Bench
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool

from wam.core.verdict import Ladder
from wam.ros.qos import COMMAND
from wam_msgs.msg import ActionChunk

pytestmark = pytest.mark.ros


def test_an_emergency_stop_is_latched_until_it_is_cleared(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    assert bench.call("estop").success
    assert arms.wait_for(lambda: arms.saw("estop"))
    bench.more_commands(150)
    last = arms.commands["left"][-10:]
    np.testing.assert_allclose(last, np.broadcast_to(last[-1], (10, 7)), atol=1e-4)
    assert bench.rung is Ladder.STOP
    assert bench.call("clear_fault").success
    assert arms.wait_for(lambda: arms.saw("fault_cleared"))
    assert arms.wait_for(lambda: arms.events[-1].ladder_to == int(Ladder.NOMINAL))


def test_a_held_emergency_stop_cannot_be_cleared_away(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    assert arms.wait_for(arms.estop.get_subscription_count)
    arms.estop.publish(Bool(data=True))
    assert arms.wait_for(lambda: arms.saw("estop"))
    bench.call("clear_fault")
    bench.more_commands(20)
    assert bench.rung is Ladder.STOP


def test_a_second_publisher_on_the_command_topic_stops_the_arm_and_is_named(
    make_bench: Callable[..., Bench],
) -> None:
    """Two nodes that command one arm pull it to and fro; CRISP ignores commands then, others do not look."""
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    assert arms.wait_for(lambda: all(arms.commands.values()))
    intruder = arms.create_publisher(JointState, "left/joint_ctrl_single", COMMAND)
    assert arms.wait_for(lambda: arms.saw("second_publisher"))
    event = next(e for e in arms.events if e.code == "second_publisher")
    assert "/arms" in event.text
    assert event.ladder_to == int(Ladder.STOP)
    arms.destroy_publisher(intruder)


def test_lost_joint_states_hold_both_arms_and_motion_resumes_when_they_return(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    arms.report = False
    assert arms.wait_for(lambda: arms.saw("joint_state_timeout"))
    count = len(arms.events)
    arms.report = True
    assert arms.wait_for(lambda: any(e.code == "recovered" for e in arms.events[count:]))


def test_a_driver_that_goes_is_named_and_taken_up_again(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    arms.remove_drivers()
    assert arms.wait_for(lambda: bench.stale() == "joint_state_timeout")
    assert arms.wait_for(lambda: bench.raised("driver_lost"))
    # The one is seen by the age of the last message, the other by the graph, and only the first becomes an event.
    assert arms.wait_for(lambda: arms.saw("joint_state_timeout") or arms.saw("driver_lost"))
    assert bench.rung is Ladder.HOLD
    arms.make_drivers()
    count = len(arms.events)
    assert arms.wait_for(lambda: any(e.code == "recovered" for e in arms.events[count:]))


def test_a_driver_that_goes_is_a_stop_where_that_was_asked_for(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(latch_driver_loss=True)
    bench.activate()
    arms = bench.arms
    assert arms.wait_for(lambda: all(arms.commands.values()))
    arms.remove_drivers()
    assert arms.wait_for(lambda: arms.saw("liveliness_lost"))
    arms.make_drivers()
    bench.more_commands(20)
    assert bench.rung is Ladder.STOP
    assert bench.call("clear_fault").success


def test_an_executor_that_goes_is_named(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    arms.sending = False
    arms.destroy_publisher(arms.chunks)
    assert arms.wait_for(lambda: arms.saw("executor_lost"))


def test_an_executor_whose_chunks_still_arrive_is_not_lost(make_bench: Callable[..., Bench]) -> None:
    """One of two publishers went, Fast DDS counted none from then on, and the arm was held for as long as it ran."""
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    liveliness = bench.safety._watch.chunk_events().liveliness
    liveliness(SimpleNamespace(alive_count=1))
    liveliness(SimpleNamespace(alive_count=0))
    assert arms.wait_for(lambda: arms.saw("executor_lost"))
    assert arms.wait_for(lambda: arms.events[-1].ladder_to == int(Ladder.NOMINAL))


def test_a_chunk_that_cannot_be_read_is_named_once_and_moves_nothing(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    assert arms.wait_for(lambda: all(arms.commands.values()))
    broken = ActionChunk(num_rows=3, joint_names=["left_joint1"], positions=[1.0])
    assert arms.wait_for(arms.chunks.get_subscription_count)
    for _ in range(10):
        arms.chunks.publish(broken)
        bench.time.tick()
    assert arms.wait_for(lambda: arms.saw("malformed_chunk"))
    assert sum(event.code == "malformed_chunk" for event in arms.events) == 1
    home = np.array([joint.home for joint in arms.robot.groups[0].joints])
    np.testing.assert_allclose(arms.commands["left"][-1], home, atol=1e-9)


def test_a_cycle_that_fails_is_a_stop_and_the_arm_is_still_commanded(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that dies of an exception leaves the arm to a driver that has no watchdog."""
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    cycle = bench.safety.cycle
    assert cycle is not None
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    original = cycle._take_answer

    def fail(*args: Any, **named: Any) -> None:
        monkeypatch.setattr(cycle, "_take_answer", original)
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr(cycle, "_take_answer", fail)
    assert arms.wait_for(lambda: arms.saw("internal_error"))
    bench.more_commands(50)
    assert cycle.ladder.rung is Ladder.STOP
