# SPDX-License-Identifier: Apache-2.0
"""Policies: networks, weights, and what turns them into planners and executors. Imports torch, never rclpy."""
