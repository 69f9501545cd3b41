# SPDX-License-Identifier: Apache-2.0
"""A Franka with small cameras."""

from __future__ import annotations

from small_episodes import small_franka

__all__ = ["small_franka"]
