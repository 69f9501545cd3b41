# SPDX-License-Identifier: Apache-2.0
"""Trajectories: fits through chunk rows, resampling, stops."""
