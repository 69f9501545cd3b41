# SPDX-License-Identifier: Apache-2.0
"""Messages that describe a simulated device: its modes as text, the state of its trajectory controller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from wam.devices.jtc import ControllerState
from wam.ros.conversions import ns_to_time


def modes_text(name: str, modes: Mapping[str, str | float]) -> DiagnosticStatus:
    """Return a device's modes as diagnostic_msgs/DiagnosticStatus: what is published in place of a vendor's message."""
    values = [
        KeyValue(key=key, value=value if isinstance(value, str) else f"{value:g}")
        for key, value in modes.items()
    ]
    return DiagnosticStatus(level=DiagnosticStatus.OK, name=name, hardware_id="simulated", values=values)


def controller_state_message(kind: Any, state: ControllerState, stamp_ns: int) -> Any:
    """Return a control_msgs/JointTrajectoryControllerState; fields that a version lacks are left out."""
    message = kind(joint_names=list(state.names))
    message.header.stamp = ns_to_time(stamp_ns)
    # Humble's older message has `desired` and `actual`.
    reference = getattr(message, "reference", None) or message.desired
    feedback = getattr(message, "feedback", None) or message.actual
    reference.positions = state.reference.tolist()
    reference.velocities = state.reference_velocity.tolist()
    reference.accelerations = state.reference_acceleration.tolist()
    feedback.positions = state.feedback.tolist()
    feedback.velocities = state.feedback_velocity.tolist()
    message.error.positions = (state.reference - state.feedback).tolist()
    message.error.velocities = (state.reference_velocity - state.feedback_velocity).tolist()
    if hasattr(message, "output"):
        message.output.positions = state.reference.tolist()
    if hasattr(message, "speed_scaling_factor"):
        message.speed_scaling_factor = state.speed_scaling
    return message
