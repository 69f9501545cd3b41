# SPDX-License-Identifier: Apache-2.0
"""Topics, message types and metadata of the recordings that this suite writes, where the robot file does not decide."""

from __future__ import annotations

from wam.core.clock import NS_PER_S

JOINT_STATE = "sensor_msgs/msg/JointState"
JOINT_TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
IMAGE = "sensor_msgs/msg/Image"
STRING = "std_msgs/msg/String"
FLOAT64 = "std_msgs/msg/Float64"
FLOAT64_ARRAY = "std_msgs/msg/Float64MultiArray"
CONTROLLER_STATE = "control_msgs/msg/JointTrajectoryControllerState"
GRIPPER_COMMAND = "control_msgs/msg/GripperCommand"
FFMPEG_PACKET = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
COMPRESSED_VIDEO = "foxglove_msgs/msg/CompressedVideo"

ACTION_TOPIC = "/action"
"""Commands to all joints, in the policy's names and units."""

INSTRUCTION_TOPIC = "/instruction"
"""Task text, whenever it changes."""

WARNINGS = "wam.warnings"
"""Custom data of a bag: warnings given when it was made, one per line."""

EPOCH_NS = 1_600_000_000 * NS_PER_S
"""Stamp of the start of an episode [ns], where only times since its start are known."""

JPEG_QUALITY = 95
