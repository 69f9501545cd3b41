# SPDX-License-Identifier: Apache-2.0
"""Robot files, models, and the one path from driver messages to observations (no rclpy, no torch)."""
