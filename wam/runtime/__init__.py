# SPDX-License-Identifier: Apache-2.0
"""The pure cycles that nodes, replay and evaluation all run; no rclpy, no torch."""
