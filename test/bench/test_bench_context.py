# SPDX-License-Identifier: Apache-2.0
"""The context bench runs, in miniature, and names what it promises to name."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from wam.bench import context
from wam.bench.contexts import CODEC, from_line, make_context, make_payload, to_line, use
from wam.core.transport.in_process import InProcessPublisher, InProcessRegistry

PROMISED = {
    "in_process_44mb_p99_us",
    "in_process_400mb_p99_us",
    "in_process_bytes_copied",
    "context_message_bytes",
    "shared_memory_44mb_p99_ms",
}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(context, "TOKENS", {"44mb": 1, "400mb": 2})
    monkeypatch.setattr(context, "HAND_OVERS", 5)
    monkeypatch.setattr(context, "SHARED_HAND_OVERS", {"44mb": 3, "400mb": 3})
    monkeypatch.setattr(context, "FULL_READS", 2)
    monkeypatch.setattr(context, "PLANNER_PERIOD_S", 0.0)


def test_a_run_without_ros_measures_the_rest_and_says_what_is_missing(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> dict[str, float]:
        raise RuntimeError("wam_msgs is not built")

    monkeypatch.setattr(context, "through_dds", absent)
    stages: list[str] = []
    measured = context.run(stages.append)
    assert set(measured.results) >= PROMISED
    assert set(measured.bars) >= PROMISED
    assert measured.results["in_process_bytes_copied"] == 0
    assert 0 < measured.results["context_message_bytes"] <= 4096
    assert any("wam_msgs is not built" in note for note in measured.notes)
    assert len(stages) == 5


def test_a_transport_that_copied_would_be_seen(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter compares addresses: it must not be 0 by construction."""
    publish = InProcessPublisher.publish

    def copy(self, published):
        payload = {name: np.array(tensor) for name, tensor in published.payload.items()}
        return publish(self, make_context(published.header.version, payload))

    monkeypatch.setattr(InProcessPublisher, "publish", copy)
    payload = make_payload(8)
    size = sum(tensor.nbytes for tensor in payload.values())
    results = context.in_process("44mb", payload, hand_overs=1)
    assert results["in_process_bytes_copied"] == size * (context.WARM_UP + 1)
    assert results["in_process_peak_alloc_bytes"] >= size


def test_the_large_contexts_have_the_sizes_of_their_names() -> None:
    table = CODEC.specs({name: np.broadcast_to(np.uint16(0), (30, 120, 24, 128)) for name in ("k", "v")})
    assert table[1].byte_offset * 2 == 44_236_800
    assert pytest.approx(400e6, rel=1e-3) == 30 * context.TOKENS_400MB * 24 * 128 * 2 * 2


def test_a_handle_survives_its_line() -> None:
    published = make_context(3, make_payload(1))
    handle = InProcessPublisher(CODEC, registry=InProcessRegistry()).publish(published)
    assert from_line(to_line(published.header, handle)) == (published.header, handle)
    assert use(published.payload) == 2 * (0x3F80 + 0x4000)


@pytest.mark.ros
def test_the_dds_part_runs_between_two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed (make setup)")
    try:
        from wam_msgs.msg import KVContext  # noqa: F401
    except ImportError:
        pytest.skip("wam_msgs is not built (make setup)")
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_DOMAIN_ID", str((os.getpid() + time.time_ns()) % 101 + 1))
    results = context.through_dds("--tokens", "1", "--notifications", "3", "--inline", "2")
    assert set(results) >= {"dds_notify_p50_ms", "inline_44mb_p50_ms", "context_message_bytes"}
    assert results["context_message_bytes"] <= 4096
