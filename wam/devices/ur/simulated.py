# SPDX-License-Identifier: Apache-2.0
"""What a simulated ur_robot_driver offers: speed scaling, program, modes, dashboard and speed slider."""

from __future__ import annotations

from functools import partial
from typing import Any

from wam.devices.simulated import (
    Moment,
    SimInput,
    SimService,
    Simulated,
    SimulatedDevice,
    StatusTopic,
    trigger,
)
from wam.devices.twin import DriverAnswer, DriverTwin
from wam.devices.ur.arm import PROGRAM_TOPIC, ROBOT_MODE_TOPIC, SAFETY_MODE_TOPIC, SCALING_TOPIC
from wam.devices.ur.twin import DASHBOARD, UrDriver
from wam.robots.description import JointGroup

SCALING_RATE_HZ = 100.0
"""Rate of speed_scaling_state_broadcaster."""

SLIDER_SERVICE = "io_and_status_controller/set_speed_slider"
SLIDER_TOPIC = "io_and_status_controller/speed_slider"
"""std_msgs/Float64 0..1: stands in for set_speed_slider where ur_msgs is not installed."""


def arm(_group: JointGroup) -> Simulated:
    """Return what the driver offers."""
    slider = SimInput("float64", SLIDER_TOPIC, lambda message, device: _slide(message.data, device))
    return Simulated(
        statuses=(
            StatusTopic("float64", SCALING_TOPIC, _fill_scaling, rate=SCALING_RATE_HZ),
            StatusTopic("bool", PROGRAM_TOPIC, _fill_program, watch="program_running"),
            StatusTopic(
                "ur_robot_mode", ROBOT_MODE_TOPIC, partial(_fill_mode, "robot_mode"), watch="robot_mode"
            ),
            StatusTopic(
                "ur_safety_mode", SAFETY_MODE_TOPIC, partial(_fill_mode, "safety_mode"), watch="safety_mode"
            ),
        ),
        text_topic="io_and_status_controller/modes_text",
        services=(
            *(trigger(f"dashboard_client/{name}", partial(_dashboard, name)) for name in DASHBOARD),
            SimService("ur_set_slider", SLIDER_SERVICE, _set_slider, instead=slider),
        ),
    )


def _fill_scaling(message: Any, moment: Moment) -> None:
    message.data = float(moment.modes["speed_scaling"])


def _fill_program(message: Any, moment: Moment) -> None:
    message.data = bool(moment.modes["program_running"])


def _fill_mode(mode: str, message: Any, moment: Moment) -> None:
    message.mode = int(moment.modes[mode])


def _dashboard(name: str, device: SimulatedDevice) -> DriverAnswer:
    return device.request(name)


def _slide(fraction: float, device: SimulatedDevice) -> DriverAnswer:
    def ask(twin: DriverTwin) -> DriverAnswer:
        assert isinstance(twin, UrDriver)
        return twin.set_slider(float(fraction))

    return device.call(ask)


def _set_slider(request: Any, response: Any, device: SimulatedDevice) -> None:
    response.success = _slide(request.speed_slider_fraction, device).ok
