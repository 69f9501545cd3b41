# SPDX-License-Identifier: Apache-2.0
"""Franka Research 3 with the Franka Hand: `ros2 launch wam_deploy franka.launch.py --show-args`."""

from wam_bringup.launching import robot_launch


def generate_launch_description():
    """Return the launch description."""
    return robot_launch("franka")
