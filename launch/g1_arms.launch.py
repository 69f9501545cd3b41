# SPDX-License-Identifier: Apache-2.0
"""The arms of a Unitree G1, whose driver runs already: `ros2 launch wam_deploy g1_arms.launch.py --show-args`."""

from wam_bringup.launching import robot_launch


def generate_launch_description():
    """Return the launch description."""
    return robot_launch("g1_arms", launch_driver="false")
