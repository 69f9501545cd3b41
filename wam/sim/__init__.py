# SPDX-License-Identifier: Apache-2.0
"""Simulated twins in MuJoCo: worlds, driver twins and cameras (no rclpy, no torch)."""
