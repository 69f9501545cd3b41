# SPDX-License-Identifier: Apache-2.0
"""Recordings in, metrics and report out: bags, LeRobot data sets, offline replay. No rclpy."""
