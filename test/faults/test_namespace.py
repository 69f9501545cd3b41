# SPDX-License-Identifier: Apache-2.0
"""Nodes in a namespace get their parameters, also two of them in one process."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from wam.devices.loader import load_robot
from wam.stack.node_specs import policy_processes
from wam.stack.recorder import Recorder

pytestmark = pytest.mark.ros


def test_a_composed_process_in_a_namespace_is_configured(free_rig: Any) -> None:
    """A rule `node:name:=value` reaches a node of the root namespace only: the nodes refused to configure."""
    rig = free_rig
    options = dataclasses.replace(rig.options, namespace="lab", composed=True)
    rig.recorder.close()
    rig.recorder = Recorder(load_robot("piper"), namespace="lab")
    for spec in policy_processes(options):
        rig.start(spec)
    rig.until(
        "status of both nodes in /lab",
        lambda r: r.planner_status is not None and r.executor_status is not None,
    )
