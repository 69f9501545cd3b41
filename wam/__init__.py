# SPDX-License-Identifier: Apache-2.0
"""World-action-model policies on real robots, through ROS 2."""
