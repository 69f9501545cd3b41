# SPDX-License-Identifier: Apache-2.0
"""What the nodes of a policy tell of a stage whose backend has failed; without a ROS graph."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels (make setup)")

from wam.core.policy import StageBackend, backends_in_values, stages_to_values
from wam.ros.policy_node import PolicyNode


def test_a_failed_stage_is_logged_once_and_stays_in_the_diagnostics() -> None:
    lines: list[str] = []
    stages = (StageBackend("denoise", "onnxruntime", ""), StageBackend("route", "onnxruntime", ""))
    node: Any = SimpleNamespace(
        _stages=stages_to_values(stages),
        _told_failed=frozenset(),
        get_logger=lambda: SimpleNamespace(error=lines.append),
    )
    for failed in ({}, {"denoise": "stage denoise failed"}, {"denoise": "stage denoise failed"}):
        PolicyNode.tell_failed_stages(node, failed)
    assert lines == ["stage denoise failed"]
    assert backends_in_values(node._stages) == {
        "denoise": "eager (stage denoise failed)",
        "route": "onnxruntime",
    }
