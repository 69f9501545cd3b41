# SPDX-License-Identifier: Apache-2.0
"""Vendors' message packages: used where they are installed, looked up by name, never required."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from wam.core.errors import MissingDependency

VENDOR_TYPES: dict[str, tuple[str, str, str]] = {
    "piper_status": ("piper_msgs", "msg", "PiperStatusMsg"),
    "agx_status": ("agx_arm_msgs", "msg", "AgxArmStatus"),
    "piper_enable": ("piper_msgs", "srv", "Enable"),
    "franka_state": ("franka_msgs", "msg", "FrankaRobotState"),
    "franka_recovery": ("franka_msgs", "action", "ErrorRecovery"),
    "franka_move": ("franka_msgs", "action", "Move"),
    "franka_grasp": ("franka_msgs", "action", "Grasp"),
    "franka_homing": ("franka_msgs", "action", "Homing"),
    "gripper_command": ("control_msgs", "action", "GripperCommand"),
    "controller_state": ("control_msgs", "msg", "JointTrajectoryControllerState"),
    "ur_robot_mode": ("ur_dashboard_msgs", "msg", "RobotMode"),
    "ur_safety_mode": ("ur_dashboard_msgs", "msg", "SafetyMode"),
    "ur_set_mode": ("ur_dashboard_msgs", "action", "SetMode"),
    "ur_set_slider": ("ur_msgs", "srv", "SetSpeedSliderFraction"),
    "switch_controller": ("controller_manager_msgs", "srv", "SwitchController"),
    "controller": ("controller_manager_msgs", "msg", "ControllerState"),
    "hardware_component": ("controller_manager_msgs", "msg", "HardwareComponentState"),
    "list_controllers": ("controller_manager_msgs", "srv", "ListControllers"),
    "list_hardware": ("controller_manager_msgs", "srv", "ListHardwareComponents"),
    "set_hardware_state": ("controller_manager_msgs", "srv", "SetHardwareComponentState"),
    "trigger": ("std_srvs", "srv", "Trigger"),
    "set_bool": ("std_srvs", "srv", "SetBool"),
    "float64": ("std_msgs", "msg", "Float64"),
    "bool": ("std_msgs", "msg", "Bool"),
    "diagnostics": ("diagnostic_msgs", "msg", "DiagnosticArray"),
}
"""Our name -> package, kind and type."""

STANDARD_PACKAGES = ("std_msgs", "std_srvs", "diagnostic_msgs")
"""Packages that every ROS 2 installation has."""

Find = Callable[[str], "Any | None"]
"""Returns a type by its name in `VENDOR_TYPES`, or None where its package is not installed."""


def find_type(name: str) -> Any | None:
    """Return a vendor's message, service or action class, or None where its package is not installed.

    Args:
        name: a key of `VENDOR_TYPES`.

    Raises:
        KeyError: there is no such key.
        MissingDependency: the package lacks this type: an unsupported version.
        ImportError: the package is installed and cannot be imported.
    """
    package, kind, type_name = VENDOR_TYPES[name]
    try:
        module = importlib.import_module(f"{package}.{kind}")
    except ModuleNotFoundError as error:
        # Another missing module means a broken installation, not an absent package.
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        return None
    found = getattr(module, type_name, None)
    if found is None:
        raise MissingDependency(
            f"{package} has no {kind} {type_name}",
            allowed="a version of the driver that has it (docs/how-to)",
            where=f"the installation of {package}",
        )
    return found


def find_by(find: Find, name: str) -> Any | None:
    """Return a type that `find` knows; standard types are there whatever `find` says.

    Args:
        find: for vendors' types.
        name: a key of `VENDOR_TYPES`.
    """
    return find_type(name) if VENDOR_TYPES[name][0] in STANDARD_PACKAGES else find(name)
