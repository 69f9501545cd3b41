# SPDX-License-Identifier: Apache-2.0
"""What the nodes tell of themselves reaches the report of an episode."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels (make setup)")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from waiting import wait_until

from wam.bench.loop import LoopRecorder
from wam.devices.loader import load_robot
from wam.ros.qos import EVENT
from wam.stack.episode_recorder import EpisodeRecorder
from wam.stack.topics import DIAGNOSTICS

pytestmark = pytest.mark.ros


@pytest.fixture(params=[EpisodeRecorder, LoopRecorder])
def recorder(request: pytest.FixtureRequest) -> Iterator[EpisodeRecorder]:
    made = request.param(load_robot("piper"), ())
    yield made
    made.close()


def test_backends_and_counts_of_chunks_are_kept_from_diagnostics_that_come_once(
    recorder: EpisodeRecorder,
) -> None:
    """`backends` of `wam demo` and `wam eval --mode nodes` was always {}, and each message was taken twice."""
    node = recorder.listener.node
    assert [one.topic_name for one in node.subscriptions].count(DIAGNOSTICS.name) == 1
    publisher = node.create_publisher(DiagnosticArray, DIAGNOSTICS.name, EVENT)
    wait_until(
        lambda: publisher.get_subscription_count() > 0,
        "the recorder listens to diagnostics",
        turn=lambda: recorder.wait_for(lambda _: False, timeout=0.1),
    )
    publisher.publish(
        DiagnosticArray(
            status=[
                DiagnosticStatus(
                    name="wam_executor: acting", values=[KeyValue(key="backend of denoise", value="eager")]
                ),
                DiagnosticStatus(
                    name="wam_safety: commanding",
                    values=[
                        KeyValue(key="chunks_accepted", value="7"),
                        KeyValue(key="chunks_refused", value="2"),
                    ],
                ),
            ]
        )
    )
    assert recorder.wait_for(lambda one: bool(one.backends), timeout=30.0)
    assert recorder.backends == {"denoise": "eager"}
    messages = recorder.take()
    assert (messages.accepted, messages.refused) == (7, 2)
