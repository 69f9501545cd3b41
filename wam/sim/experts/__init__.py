# SPDX-License-Identifier: Apache-2.0
"""Scripted experts: inverse kinematics, timed motions, skills as data, one script per task."""
