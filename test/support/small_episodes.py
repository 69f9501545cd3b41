# SPDX-License-Identifier: Apache-2.0
"""A Franka with small cameras, and one short task: rendering takes most of a recording's time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wam.data.lerobot.format import Version
from wam.devices.loader import load_robot
from wam.robots.description import RobotDescription
from wam.sim.recording.plan import Format, RecordPlan
from wam.sim.tasks.task import Setting

TASK = "franka_box_to_bowl"


@pytest.fixture(scope="session")
def small_franka() -> RobotDescription:
    """The Franka with pictures of 64x48 pixels."""
    robot = load_robot("franka")
    return replace(robot, cameras=tuple(replace(one, height=48, width=64) for one in robot.cameras))


@pytest.fixture(scope="session")
def plan() -> RecordPlan:
    """Both cameras, five rows a second."""
    return RecordPlan(
        task=TASK,
        setting=Setting.SEEN,
        seed=3,
        format=Format.LEROBOT,
        version=Version.V30,
        fps=5.0,
        cameras=("side", "wrist"),
    )
