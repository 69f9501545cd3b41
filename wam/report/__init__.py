# SPDX-License-Identifier: Apache-2.0
"""Reports: numbers, plots and one self-contained HTML page. No rclpy, no torch."""
