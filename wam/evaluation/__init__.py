# SPDX-License-Identifier: Apache-2.0
"""How well a policy did: replay of recordings, closed loop in simulation, metrics; no rclpy."""
