# SPDX-License-Identifier: Apache-2.0
"""Episodes of simulated tasks: recorded as data, scored in closed loop, shown as pictures. No rclpy."""
