# SPDX-License-Identifier: Apache-2.0
"""Subscriptions that are read when their messages are wanted, instead of waking the executor with each.

rclpy's executor looks through all entities of all nodes for every message: 0.2 to 0.35 ms of processor time, many times
what it takes to store a joint state. A stream of which many messages come between two uses is therefore left in the
middleware's queue and read in one go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.subscription import Subscription


class Unattended(CallbackGroup):
    """Entities that no executor waits for."""

    def can_execute(self, entity: Any) -> bool:
        """Return that it cannot."""
        return False

    def beginning_execution(self, entity: Any) -> bool:
        """Return that it may not begin."""
        return False

    def ending_execution(self, entity: Any) -> None:
        """Do nothing: nothing has begun."""


def leave_unattended(subscription: Subscription[Any]) -> None:
    """Have no executor wait for a subscription that was made without a group of its own."""
    group = Unattended()
    subscription.callback_group = group
    # With Fast DDS a wait for a reader's events ends at once while the reader holds unread messages.
    for handler in subscription.event_handlers:
        handler.callback_group = group


def take_waiting(subscription: Subscription[Any], *, limit: int) -> Iterator[tuple[Any, Any]]:
    """Yield the messages that wait in the queue of a subscription, each with how it arrived, oldest first.

    One thread at a time. A subscription that was destroyed has none.

    Args:
        subscription: in a group `Unattended`.
        limit: most messages that are taken; more may come while they are read.
    """
    for _ in range(limit):
        taken = None
        with contextlib.suppress(rclpy_implementation.InvalidHandle), subscription.handle:
            taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
        if taken is None:
            return
        yield taken
