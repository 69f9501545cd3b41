# SPDX-License-Identifier: Apache-2.0
"""Every generalised position of a model has a name of its own."""

from __future__ import annotations

import mujoco

from wam.sim.model import position_names

MODEL = """
<mujoco><worldbody>
<body><joint name="slide" type="slide"/><geom size=".1"/></body>
<body><freejoint name="block"/><geom size=".1"/></body>
<body><joint name="ball" type="ball"/><geom size=".1"/></body>
<body><joint name="hinge"/><geom size=".1"/></body>
</worldbody></mujoco>
"""


def test_a_joint_with_several_positions_numbers_them() -> None:
    model = mujoco.MjModel.from_xml_string(MODEL)
    names = position_names(model)
    block = [f"block[{number}]" for number in range(7)]
    ball = [f"ball[{number}]" for number in range(4)]
    assert names == ("slide", *block, *ball, "hinge")
    assert len(names) == model.nq


def test_a_model_without_joints_has_no_names() -> None:
    assert position_names(mujoco.MjModel.from_xml_string("<mujoco/>")) == ()
