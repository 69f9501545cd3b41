# SPDX-License-Identifier: Apache-2.0
"""The edges to the robots' drivers: their protocols, units, states and recoveries. No rclpy, no torch."""
