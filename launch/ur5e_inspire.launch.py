# SPDX-License-Identifier: Apache-2.0
"""UR5e with an Inspire RH56 hand: `ros2 launch wam_deploy ur5e_inspire.launch.py --show-args`."""

from wam_bringup.launching import robot_launch


def generate_launch_description():
    """Return the launch description."""
    return robot_launch("ur5e_inspire")
