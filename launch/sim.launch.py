# SPDX-License-Identifier: Apache-2.0
"""The simulated robot in place of hardware: `ros2 launch wam_deploy sim.launch.py robot:=franka`."""

from wam_bringup.launching import robot_launch


def generate_launch_description():
    """Return the launch description."""
    return robot_launch("piper", simulate="true")
