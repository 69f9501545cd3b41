# SPDX-License-Identifier: Apache-2.0
"""Parameters of the driver node."""

from __future__ import annotations

from dataclasses import dataclass

from wam.devices.franka.hand import MAX_FORCE, GripperApi
from wam.devices.inspire.address import FORMS
from wam.ros.parameters import parameter


@dataclass(frozen=True, slots=True)
class DriverParameters:
    """Parameters of the driver node."""

    robot: str = parameter(description="robot: a name in config/robots or the path of a YAML file")
    devices: tuple[str, ...] = parameter(
        ("mock",),
        description=f"addresses of the hands, one for each hand group of the robot file, in its order: {FORMS}; "
        "ignored for a robot without hands",
    )
    recover_moving: bool = parameter(
        False,
        description="allow ~/recover to perform steps during which the robot may move or sink (brakes, drives, resets)",
    )
    write_enabled: bool = parameter(
        False, description="accept commands from the start; otherwise only after a call of ~/enable"
    )
    rate: float = parameter(
        40.0,
        description="cycles per second; at most 50 on a serial bus, shared by its hands, and 100 over Modbus-TCP",
        unit="Hz",
        lower=1.0,
        upper=100.0,
    )
    speed: int = parameter(
        1000, description="speed of the fingers; 1000 is full travel in 0.8 s", lower=1, upper=1000
    )
    force: int = parameter(
        500, description="force limit of each finger, raw (about grams)", lower=0, upper=1000
    )
    temperature_limit: int = parameter(
        70, description="at this temperature the hand stops closing", unit="degC", lower=40, upper=90
    )
    gripper_api: str = parameter(
        GripperApi.FRANKA.value,
        description="actions of a Franka Hand: Move and Grasp of franka_msgs, or GripperCommand of control_msgs",
        choices=tuple(one.value for one in GripperApi),
    )
    gripper_force: float = parameter(
        30.0, description="force of a grasp", unit="N", lower=1.0, upper=MAX_FORCE
    )
    gripper_close_below: float = parameter(
        0.03, description="a target opening below this closes the gripper", unit="m", lower=0.001, upper=0.079
    )
    gripper_open_above: float = parameter(
        0.05, description="a target opening above this opens the gripper", unit="m", lower=0.002, upper=0.08
    )
    gripper_dwell: float = parameter(
        0.4, description="minimum time between two goals of the gripper", unit="s", lower=0.1, upper=5.0
    )
    dead_band: int = parameter(
        4, description="smaller changes of a target are not written, raw", lower=1, upper=50
    )
