# SPDX-License-Identifier: Apache-2.0
"""What a policy did, judged: replay of recordings, closed loop in simulation, metrics; no rclpy."""
