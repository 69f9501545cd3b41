# SPDX-License-Identifier: Apache-2.0
"""A recorded bag in place of a robot, nothing commanded: `ros2 launch wam_deploy replay.launch.py bag:=DIRECTORY`."""

from wam_bringup.launching import replay_launch


def generate_launch_description():
    """Return the launch description."""
    return replay_launch()
