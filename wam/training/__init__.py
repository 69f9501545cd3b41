# SPDX-License-Identifier: Apache-2.0
"""Training of any policy: options, data, loop, checkpoints, the runner of recipes. Torch, no rclpy, no policy."""
