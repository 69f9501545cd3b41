# SPDX-License-Identifier: Apache-2.0
"""A Franka with small cameras and one short task."""

from __future__ import annotations

from small_episodes import plan, small_franka

__all__ = ["plan", "small_franka"]
