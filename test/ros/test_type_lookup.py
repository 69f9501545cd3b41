# SPDX-License-Identifier: Apache-2.0
"""Nodes of the suite ask no other participant for types during discovery.

Fast DDS 3 asks the first participant that names a type it does not know. A safety node that was started in place of a
killed one, which it had asked just before, never received a joint state and never found a listener of its commands: no
endpoint of the type was matched again, whoever had it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (make setup)")

from wam.ros.environment import MIDDLEWARE, PROFILE, suite_profile, types_profile

pytestmark = [
    pytest.mark.ros,
    pytest.mark.skipif(
        not os.environ.get(MIDDLEWARE, "rmw_fastrtps").startswith("rmw_fastrtps"), reason="for Fast DDS only"
    ),
]

THREADS = """
import pathlib, rclpy
rclpy.init(args=[])
node = rclpy.create_node("one")
names = {task.joinpath("comm").read_text().strip() for task in pathlib.Path("/proc/self/task").iterdir()}
print("discovers" if any(name.startswith("dds.udp") for name in names) else "does not discover")
print("asks for types" if any(name.startswith("dds.tls") for name in names) else "asks for no types")
rclpy.shutdown()
"""


def what_a_node_does(profile: str) -> list[str]:
    """Return what the threads of a node in a process of its own are for."""
    environment = {**os.environ, PROFILE: profile}
    if not profile:
        del environment[PROFILE]
    command = [sys.executable, "-c", THREADS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "profile",
    [suite_profile("LOCALHOST"), suite_profile("SUBNET"), types_profile()],
    ids=lambda path: path.stem,
)
def test_a_node_with_a_profile_of_the_suite_asks_for_no_types(profile: Path) -> None:
    assert what_a_node_does(str(profile)) == ["discovers", "asks for no types"]


def test_without_a_profile_a_node_does() -> None:
    """Once this fails, Fast DDS has changed its mind or the names of its threads: look at the profiles again."""
    assert what_a_node_does("") == ["discovers", "asks for types"]
