# SPDX-License-Identifier: Apache-2.0
"""Twin of joint_trajectory_controller (ros2_controllers); its rules and their tests: docs/reference/jtc-twin.md."""

from wam.devices.jtc.controller import TrajectoryController
from wam.devices.jtc.values import ControllerOptions, ControllerState, Trajectory, TrajectoryPoint

__all__ = ["ControllerOptions", "ControllerState", "Trajectory", "TrajectoryController", "TrajectoryPoint"]
