# SPDX-License-Identifier: Apache-2.0
"""What a simulated piper_ros offers: the arm's status, the drives' switch and the reset."""

from __future__ import annotations

from typing import Any

from wam.devices.piper.arm import ARM_JOINTS, PIPER_ROS
from wam.devices.simulated import Moment, SimService, Simulated, SimulatedDevice, StatusTopic, beside, trigger
from wam.devices.twin import DISABLE, ENABLE
from wam.robots.description import JointGroup


def arm(group: JointGroup) -> Simulated:
    """Return what the driver node of one arm offers."""
    status, enable = (beside(group.state_topic, name) for name in (PIPER_ROS.status, PIPER_ROS.enable))
    return Simulated(
        statuses=(StatusTopic("piper_status", status, _fill_status, rate=group.state_rate),),
        text_topic=f"{status}_text",
        services=(
            SimService("piper_enable", enable, _enable, instead=SimService("set_bool", enable, _set_bool)),
            trigger(beside(group.state_topic, "reset_srv"), lambda device: device.request("reset")),
        ),
        copy_topic=beside(group.state_topic, "joint_states_feedback"),
        echo_topic=beside(group.state_topic, "joint_ctrl"),
        enable_topic=beside(group.state_topic, "enable_flag"),
    )


def _fill_status(message: Any, moment: Moment) -> None:
    message.ctrl_mode = int(moment.modes["ctrl_mode"])
    message.arm_status = int(moment.modes["arm_status"])
    positions = dict(zip(moment.feedback.names, moment.feedback.positions, strict=True))
    joints = {joint.driver_name: joint for joint in moment.group.joints}
    for number, name in enumerate(ARM_JOINTS, 1):
        field = f"joint_{number}_angle_limit"
        if hasattr(message, field) and name in joints:
            joint = joints[name]
            setattr(message, field, not joint.lower < positions[name] < joint.upper)


def _set_bool(request: Any, response: Any, device: SimulatedDevice) -> None:
    given = device.request(ENABLE if request.data else DISABLE)
    response.success, response.message = given.ok, given.text


def _enable(request: Any, response: Any, device: SimulatedDevice) -> None:
    response.enable_response = device.request(ENABLE if request.enable_request else DISABLE).ok
