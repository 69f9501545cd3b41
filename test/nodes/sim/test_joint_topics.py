# SPDX-License-Identifier: Apache-2.0
"""Which states of a joint group go out, with a node that keeps what is published."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels (make setup)")

from wam.core.clock import NS_PER_MS
from wam.devices.loader import load_robot
from wam.devices.twin import JointFeedback
from wam.ros.conversions import time_to_ns
from wam_sim_node.arm import JointTopics

pytestmark = pytest.mark.ros


class Kept:
    """A publisher that keeps its messages."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def publish(self, message: Any) -> None:
        self.messages.append(message)

    def get_subscription_count(self) -> int:
        return 0


def stamps_of(ticks_ms: list[float], *, tick_ms: float) -> list[float]:
    """Return the stamps [ms] of the states that go out when the physics have cycles at `ticks_ms`."""
    made: list[Kept] = []
    node = SimpleNamespace(
        p=SimpleNamespace(lock_step=False),
        inputs=SimpleNamespace(listen=lambda *_args, **_more: None),
        create_lifecycle_publisher=lambda *_args: made.append(Kept()) or made[-1],
    )
    group = load_robot("piper").groups[0]
    topics = JointTopics(node, group, SimpleNamespace(), lambda _: None, tick_ns=round(tick_ms * NS_PER_MS))
    count = len(group.driver_names)
    feedback = JointFeedback(group.driver_names, (0.0,) * count, (0.0,) * count, (0.0,) * count)
    output: Any = SimpleNamespace(feedback=feedback, echo=feedback, controller=None)
    for at in ticks_ms:
        topics.publish(output, round(at * NS_PER_MS))
    return [time_to_ns(message.header.stamp) / NS_PER_MS for message in made[0].messages]


def test_a_state_as_fast_as_the_physics_goes_out_with_each_cycle_early_or_late() -> None:
    """After one late cycle, those that were in time seemed too early: 100 of 200 states a second were left out."""
    ticks = [1000.0, 1005.8, 1010.1, 1015.0, 1022.7, 1025.0, 1030.0, 1035.0, 1040.0]
    assert stamps_of(ticks, tick_ms=5.0) == ticks


def test_a_state_that_is_slower_than_the_physics_keeps_its_rate() -> None:
    assert stamps_of([1000.0 + 2.0 * i for i in range(500)], tick_ms=2.0)[:4] == [
        1000.0,
        1006.0,
        1010.0,
        1016.0,
    ]
