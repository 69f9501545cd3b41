# SPDX-License-Identifier: Apache-2.0
"""A device that answers late is told early, by the robot file's lead and by nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wam.core.chunk import ActionChunk
from wam.devices.loader import load_robot
from wam.runtime.safety.build import build_cycle, settings_for
from wam.runtime.safety.filters import build_chain

MS = 1_000_000
TICK, PERIOD, LEAD = 10 * MS, 33_333_333, 66 * MS
AMPLITUDE, OMEGA = 0.05, 0.5 * np.pi


def wave(at_ns: np.ndarray) -> np.ndarray:
    return AMPLITUDE * np.sin(OMEGA * at_ns * 1e-9)


def test_a_device_that_answers_late_is_told_early() -> None:
    """An Inspire hand moves 66 ms after its command: told in step with the arm, it closed two rows behind it."""
    robot = load_robot("piper")
    late, prompt = robot.groups
    robot = replace(robot, groups=(replace(late, command_lead_ns=LEAD), prompt))
    home = np.array([joint.home for joint in robot.joints])
    arm = np.array([0.0 if joint.name.endswith("gripper") else 1.0 for joint in robot.joints])
    settings = settings_for(robot)
    start_ns = now_ns = 10**18
    cycle = build_cycle(robot, settings, build_chain(robot, model=False), wall=lambda: now_ns - start_ns)
    position = home
    for tick in range(240):
        now_ns += TICK
        for number, group in enumerate(robot.groups):
            part = slice(7 * number, 7 * number + 7)
            cycle.offer_state(group.name, stamp_ns=now_ns, positions=position[part])
        if tick % 10 == 5:
            stamp_ns = now_ns - 120 * MS
            times = stamp_ns - start_ns + np.arange(16) * PERIOD
            chunk = ActionChunk(
                stamp_ns=stamp_ns,
                generation=1,
                sequence=tick,
                contract_hash="a" * 64,
                context_version=1,
                context_age_ns=100 * MS,
                phase_offset_rows=3,
                row_period_ns=PERIOD,
                joint_names=robot.joint_names,
                rows=home + wave(times)[:, None] * arm,
            )
            cycle.offer_chunk(chunk, arrival_ns=now_ns)
        result = cycle.step(now_ns)
        position = position if result.position is None else result.position
    early, in_step = wave(now_ns - start_ns + settings.lead_ns + np.array([LEAD, 0]))
    np.testing.assert_allclose((position - home)[[0, 7]], [early, in_step], atol=3e-4)
    assert abs(early - in_step) > 3e-3


def test_the_robot_file_of_the_hand_has_its_delay_and_the_others_have_none() -> None:
    groups = [group for name in ("franka", "ur5e_inspire", "piper") for group in load_robot(name).groups]
    assert {group.driver: group.command_lead_ns for group in groups} == {
        "franka": 0,
        "franka_gripper": 0,
        "ur": 0,
        "inspire": LEAD,
        "piper": 0,
    }
