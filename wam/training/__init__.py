# SPDX-License-Identifier: Apache-2.0
"""Training of AHA-WAM: data, losses, loops, distillation. Torch, no rclpy."""
