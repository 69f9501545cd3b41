# SPDX-License-Identifier: Apache-2.0
"""Two safety nodes for one robot, as processes over real DDS: one commands, the other never does."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (make setup)")

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rig import Rig
from sensor_msgs.msg import JointState

from wam.core.clock import NS_PER_S
from wam.core.verdict import Ladder
from wam.devices.loader import load_robot
from wam.ros.qos import COMMAND
from wam.stack.node_specs import executor, planner, safety, sim
from wam.stack.processes import NodeSpec
from wam.stack.recorder import Recorder

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.slow]

TICK_S = 0.01


def second(rig: Rig, **parameters: Any) -> NodeSpec:
    """Return another safety process, under the same node name, as a second launch would start it."""
    spec = safety(rig.options)
    values = {name: {**given, **parameters} for name, given in spec.parameters.items()}
    return dataclasses.replace(spec, name="second", parameters=values)


class Senders:
    """Who sent each command of the left arm."""

    def __init__(self, rig: Rig) -> None:
        self.gids: list[str] = []
        topic = load_robot(rig.options.robot).groups[0].command_topic
        rig.recorder.listener.node.create_subscription(JointState, topic, self._take, COMMAND)

    def _take(self, _message: JointState, info: Any) -> None:
        self.gids.append(str(info["publisher_gid"]))


class Lifecycle:
    """The lifecycle services of the safety node.

    A server that has not discovered a new client's reader within 0.1 s drops its answer ("client will not receive
    response"), however ready it seems to the client. So an unanswered question is asked again, and a transition counts
    by the state that it leads to.
    """

    def __init__(self, rig: Rig) -> None:
        node = rig.recorder.listener.node
        self._rig = rig
        self._get = node.create_client(GetState, "wam_safety/get_state")
        self._change = node.create_client(ChangeState, "wam_safety/change_state")
        rig.until("services", lambda _: self._get.service_is_ready() and self._change.service_is_ready())

    def until_state(self, state: int) -> None:
        """Wait for a primary state, while time goes on."""
        asked: list[Any] = []
        asked_ns = 0

        def reached(_recorder: Recorder) -> bool:
            nonlocal asked_ns
            if self._rig.time.now_ns - asked_ns > NS_PER_S // 10:
                asked_ns = self._rig.time.now_ns
                asked.append(self._get.call_async(GetState.Request()))
            return any(one.done() and one.result().current_state.id == state for one in asked)

        self._rig.until(f"state {state}", reached)

    def change(self, transition: int, state: int) -> None:
        """Ask for a transition and wait for the state that it leads to."""
        self._change.call_async(ChangeState.Request(transition=Transition(id=transition)))
        self.until_state(state)


def test_a_safety_node_that_is_launched_twice_refuses_and_the_first_does_not_notice(rig: Rig) -> None:
    """Both commanded for 30 s, then one held and the other moved: 1,100 steps above 0.05 rad in 20 s."""
    senders = Senders(rig)
    rig.start_all()
    first = rig.group.processes["safety"]
    events = len(rig.recorder.safety)
    loser = rig.start(second(rig))
    rig.until("the end of the second", lambda _: loser.exit_code() is not None)
    rig.run(1.0)
    assert loser.exit_code() == 1
    log = loser.log_tail(30)
    assert f"kill {first.pid}" in log, f"{log}\n--- the first\n{first.log_tail(30)}"
    assert first.exit_code() is None
    assert len(set(senders.gids)) == 1, "nobody but the first has sent a command"
    assert [one.code for one in rig.recorder.safety[events:] if one.ladder_to >= Ladder.HOLD] == []
    positions = rig.recorder.commanded["left"].series().positions
    limits = np.array([joint.velocity for joint in load_robot("piper").groups[0].joints])
    assert np.all(np.abs(np.diff(positions, axis=0)) <= 1.01 * limits * TICK_S)


def test_a_standby_takes_over_at_once_when_the_holder_is_killed(rig: Rig) -> None:
    """The killed one stays in the graph for 20 s; the lock tells that it is a ghost."""
    rig.start(sim(rig.options))
    rig.start(safety(rig.options))
    rig.until_commanded()
    rig.start(second(rig, autostart=False))
    node = rig.recorder.listener.node
    topic = f"/{load_robot('piper').groups[0].command_topic}"
    # Two servers of one name would answer; the first is active and refuses what only the second can do.
    rig.until("both nodes", lambda _: node.count_services("/wam_safety/get_state") == 2)
    rig.kill("safety")
    rig.lock_step.admit("/wam_safety")
    rig.until("one server", lambda _: rig.group.processes["safety"].exit_code() is not None)
    second_node = Lifecycle(rig)
    second_node.until_state(State.PRIMARY_STATE_UNCONFIGURED)
    second_node.change(Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE)
    assert node.count_publishers(topic) == 2, "the ghost is still in the graph"
    events = len(rig.recorder.safety)
    commands = len(rig.recorder.commanded["left"].stamps)
    second_node.change(Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE)
    rig.start(planner(rig.options))
    rig.start(executor(rig.options))
    rig.until("commands", lambda r: len(r.commanded["left"].stamps) > commands + 20)
    rig.until_moving()
    assert all(one.code != "second_publisher" for one in rig.recorder.safety[events:])


def test_a_killed_safety_node_is_started_again_at_once(rig: Rig) -> None:
    rig.start_all()
    events = len(rig.recorder.safety)
    rig.kill("safety")
    commands = len(rig.recorder.commanded["left"].stamps)
    again = rig.start(safety(rig.options))
    rig.until("commands", lambda r: len(r.commanded["left"].stamps) > commands + 20)
    rig.until_moving()
    assert again.exit_code() is None
    assert all(one.code != "second_publisher" for one in rig.recorder.safety[events:])
