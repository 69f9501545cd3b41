# SPDX-License-Identifier: Apache-2.0
"""Two AgileX Piper arms: `ros2 launch wam_deploy piper.launch.py --show-args`."""

from wam_bringup.launching import robot_launch


def generate_launch_description():
    """Return the launch description."""
    return robot_launch("piper")
