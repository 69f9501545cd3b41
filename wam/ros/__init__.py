# SPDX-License-Identifier: Apache-2.0
"""The ROS 2 shell: lifecycle, parameters, QoS, message conversions, ingest and context channel (no torch)."""
