# SPDX-License-Identifier: Apache-2.0
"""Timers for what must go on while `/clock` stands still: reports, discovery, answers to a user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.timer import Timer


def steady_timer(node: Node, period: float, callback: Callable[[], None], **more: Any) -> Timer:
    """Call `callback` every `period` [s] of the monotonic clock, also where `use_sim_time` is set.

    A timer of `Node.create_timer` follows the node's clock: a paused recording or simulation stops it.

    Args:
        node: owns the timer; remove it with `node.destroy_timer`.
        period: [s].
        callback: called in the node's executor.
        more: passed to `Node.create_timer` (callback_group, ...).
    """
    return node.create_timer(period, callback, clock=Clock(clock_type=ClockType.STEADY_TIME), **more)
