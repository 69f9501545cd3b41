# SPDX-License-Identifier: Apache-2.0
"""Readers of recorded data sets; numpy, pyarrow and PyAV only, no torch and no rclpy."""
