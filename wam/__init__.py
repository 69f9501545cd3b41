# SPDX-License-Identifier: Apache-2.0
"""World-action-model policies on real robots, through ROS 2."""

__version__ = "0.1.0"
