# SPDX-License-Identifier: Apache-2.0
"""The speed slider and a pause of a UR: from its driver's topics to its motion, processes over real DDS."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (make setup)")

from rig import Rig
from std_msgs.msg import Float64
from std_srvs.srv import Trigger

from wam.core.chunk import ActionChunk as Chunk
from wam.core.clock import NS_PER_MS
from wam.core.verdict import Ladder
from wam.devices.loader import load_robot
from wam.devices.optional import find_type
from wam.devices.ur.simulated import SLIDER_TOPIC
from wam.ros.conversions import chunk_to_message
from wam.ros.qos import CHUNK, EVENT
from wam.stack.node_specs import safety, sim
from wam_msgs.msg import ActionChunk

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.slow]

ROBOT = load_robot("ur5e_inspire")
SPEED = 0.3
SHARE = 0.2
ROWS, PERIOD_NS = 16, 33_333_333
DELAY_NS = 60 * NS_PER_MS
CHUNK_S = 0.1
STANDS = 0.002
"""Way of an arm that stands [rad]."""


class Policy:
    """A policy in closed loop in the executor's place: the first joint goes on from where it is, at `SPEED`."""

    def __init__(self, rig: Rig) -> None:
        self._rig, self._sequence = rig, 0
        node = rig.recorder.listener.node
        self._chunks = node.create_publisher(ActionChunk, "wam_executor/chunk", CHUNK)

    def run(self, seconds: float) -> float:
        """Let time pass and return how far the first joint gets [rad]."""
        arm = self._rig.recorder.measured["arm"]
        before = arm.series().positions[-1, 0]
        for _ in range(round(seconds / CHUNK_S)):
            self._send()
            self._rig.run(CHUNK_S)
        return float(arm.series().positions[-1, 0] - before)

    def _send(self) -> None:
        self._sequence += 1
        stamp_ns = self._rig.time.now_ns - DELAY_NS
        seen = []
        for group in ROBOT.groups:
            series = self._rig.recorder.measured[group.name].series()
            at = max(0, int(np.searchsorted(series.stamps_ns, stamp_ns, side="right")) - 1)
            seen.append(series.positions[at])
        rows = np.tile(np.concatenate(seen), (ROWS, 1))
        rows[:, 0] += SPEED * np.arange(ROWS) * PERIOD_NS * 1e-9
        chunk = Chunk(
            stamp_ns=stamp_ns,
            generation=1,
            sequence=self._sequence,
            contract_hash="a" * 64,
            context_version=1,
            context_age_ns=DELAY_NS,
            phase_offset_rows=0,
            row_period_ns=PERIOD_NS,
            joint_names=ROBOT.joint_names,
            rows=rows,
        )
        self._chunks.publish(chunk_to_message(chunk, ActionChunk))


def call(rig: Rig, name: str) -> bool:
    client = rig.recorder.listener.node.create_client(Trigger, name)
    rig.until(f"service {name}", lambda _: client.service_is_ready())
    future = client.call_async(Trigger.Request())
    rig.until(f"the answer of {name}", lambda _: future.done())
    return bool(future.result().success)


@pytest.mark.timeout(120)
@pytest.mark.skipif(find_type("ur_set_slider") is not None, reason="with ur_msgs the slider is a service")
def test_the_arm_moves_at_the_share_of_the_slider_and_goes_on_by_itself_after_a_pause(make_rig: Any) -> None:
    rig: Rig = make_rig(ROBOT.name)
    robot = sim(rig.options)
    rig.start(
        dataclasses.replace(robot, parameters={"wam_sim": {**robot.parameters["wam_sim"], "cameras": False}})
    )
    rig.start(safety(rig.options))
    rig.until_commanded()
    rig.until("joint states", lambda r: r.has_joint_states)
    policy = Policy(rig)
    slider = rig.recorder.listener.node.create_publisher(Float64, SLIDER_TOPIC, EVENT)
    rig.until("the slider's listener", lambda _: slider.get_subscription_count() > 0)
    policy.run(0.3)
    full = policy.run(0.7)
    assert full > 0.7 * 0.7 * SPEED
    begun = len(rig.recorder.safety)
    slider.publish(Float64(data=SHARE))
    policy.run(0.6)
    assert rig.recorder.safety[-1].ladder_to is Ladder.SLOW
    # What it was behind by when the slider was moved it catches up in the robot's own, slow time.
    assert 0.5 * SHARE < policy.run(0.7) / full < 2.0 * SHARE
    assert call(rig, "dashboard_client/pause")
    policy.run(0.3)
    assert abs(policy.run(0.3)) < STANDS
    slider.publish(Float64(data=1.0))
    assert call(rig, "dashboard_client/play")
    policy.run(0.6)
    assert rig.recorder.safety[-1].ladder_to is Ladder.NOMINAL
    assert policy.run(0.7) > 0.8 * full
    rungs = [event.ladder_to for event in rig.recorder.safety[begun:]]
    assert max(rungs) < Ladder.HOLD, "it goes on by itself: a pause is no loss of the robot"
