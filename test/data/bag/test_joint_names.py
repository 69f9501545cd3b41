# SPDX-License-Identifier: Apache-2.0
"""Joints of a recording are found by the names of every release of their driver."""

from __future__ import annotations

import numpy as np
import pytest

from wam.data.bag.binding import Feed, Role
from wam.data.bag.commands import CommandSample
from wam.data.bag.joint_names import RecordedJoints
from wam.data.bag.topics import JOINT_STATE
from wam.devices.loader import load_robot
from wam.devices.piper.generations import JOINTS, SEVENTH, ZERO_BASED

ROBOT = load_robot("piper")
POSITIONS = np.array([0.1, 1.2, -1.1, 0.3, 0.4, -0.5, 0.02])


@pytest.mark.parametrize("role", [Role.JOINTS, Role.ACTION])
@pytest.mark.parametrize("names", [ZERO_BASED, SEVENTH], ids=["joint0", "joint7"])
def test_a_recording_of_another_release_of_the_driver_reads_as_one_of_the_newest(
    names: tuple[str, ...], role: Role
) -> None:
    """Of joint0 .. joint6, joint1 was taken for the first joint, each after it for the one before, and the gripper was
    missing; joint1 .. joint7 had no gripper either."""
    joints = RecordedJoints(ROBOT, wanted=ROBOT.joint_names)
    feed = Feed("/right/joint_states_single", JOINT_STATE, role, ("right",))
    index, values = joints.read(CommandSample(0, names, POSITIONS), feed)
    expected_index, expected = joints.read(CommandSample(0, JOINTS, POSITIONS), feed)
    assert list(index) == list(expected_index) == list(range(7, 14))
    np.testing.assert_array_equal(values, expected)
