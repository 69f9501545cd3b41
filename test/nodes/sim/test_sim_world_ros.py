# SPDX-License-Identifier: Apache-2.0
"""The whole simulated world on a topic, for `wam demo --viewer`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wam.devices.loader import load_robot
from wam.sim.model import position_names
from wam.sim.tasks.world import make_world

pytestmark = [pytest.mark.ros, pytest.mark.sim]

SEED = 2
TASK = "franka_box_to_bowl"
WORDS = {"robot": "franka", "task": TASK, "cameras": False, "clock": "publish"}


def test_a_viewer_that_made_the_same_world_is_told_where_everything_is(stage: Any) -> None:
    from sensor_msgs.msg import JointState

    from wam.stack.topics import world_positions

    own = make_world(load_robot("franka"), task=TASK, setting="seen", seed=SEED)
    topic = world_positions(position_names(own.model))
    heard = stage.listen(JointState, topic.name, topic.qos)
    stage.run(**WORDS, seed=SEED)
    stage.until(lambda: len(heard) >= 3, "the world")
    shown = topic.decode(heard[0])
    np.testing.assert_allclose(shown.positions, own.snapshot(0).qpos, atol=0.02)
    stamps = [topic.decode(one).stamp_ns for one in heard]
    assert np.diff(stamps).min() > 0
