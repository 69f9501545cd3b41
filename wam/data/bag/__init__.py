# SPDX-License-Identifier: Apache-2.0
"""rosbag2 files (MCAP, SQLite) and ROS 1 bags: found, read, bound to a robot, written."""
