# SPDX-License-Identifier: Apache-2.0
"""Recordings of ROS messages (rosbag2 in MCAP or sqlite3, ROS 1 bags), read and written without ROS.

topics        names of topics and types that this suite writes
files         the storage files of a recording; metadata.yaml, decompression
storage       one storage file as raw messages
reading       a recording as decoded messages, in order of time
stamps        the order: header stamps, with their gaps, resets and latencies counted
binding       which topic feeds which camera or joint group of a robot
commands      what was commanded, as samples: trajectories as far as they were followed
joint_names   names and units of a sample -> the policy's joints in SI units
joint_samples such samples over time, linear in between
record        the MCAP file of a bag that is being written
writing       messages into a bag; a bag that appears only when complete
"""
