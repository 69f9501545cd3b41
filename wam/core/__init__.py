# SPDX-License-Identifier: Apache-2.0
"""Values and rules that have meaning without ROS and without torch (numpy and the standard library only)."""
