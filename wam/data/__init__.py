# SPDX-License-Identifier: Apache-2.0
"""Recordings and data sets in and out; no rclpy, no torch."""
