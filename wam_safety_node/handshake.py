# SPDX-License-Identifier: Apache-2.0
"""Holds the arm where it stands until its driver is known to receive the commands."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.duration import Duration

from wam.core.ladder import finding
from wam.core.verdict import Finding

PARTICIPANT_BYTES = 12
"""Leading bytes of a DDS endpoint's gid that are its participant's."""

JOINT_STATE_TYPE = "sensor_msgs/msg/JointState"

PATIENCE_S = 2.0
"""For how long commands that move nothing are sent to a driver that cannot be told from other listeners, or beside a
listener that was killed and does not acknowledge any more [s]. Discovery takes a fraction of it."""

RESEND_S = 0.05
"""A command that waits to be acknowledged is followed by the next one after this time [s]. An acknowledgement takes
longer than a tick, and says nothing about a command while a newer one is out."""


class Handshake:
    """Whether the driver behind one command topic receives what is sent.

    A recorder subscribes to the command topic as well, and may be discovered before the driver is: a count of
    subscribers says nothing. Confirmed is a stream of which the driver's own process, known by the joint states that
    it publishes, has acknowledged a command; failing that, one that has held still for `PATIENCE_S`.

    Args:
        node: the safety node.
        publisher: of the command topic.
        topic: its absolute name.
        now: monotonic time [s].
    """

    def __init__(
        self, node: Any, publisher: Any, topic: str, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._node, self._publisher, self._topic, self._now = node, publisher, topic, now
        self.reset()

    def reset(self) -> None:
        """Begin anew: the stream was interrupted, and its driver may be another one when it goes on."""
        self._since: float | None = None
        self._asked_at = 0.0
        self._known = self._asked = self._confirmed = False

    def due(self) -> bool:
        """Return whether the next command is to be sent, or the answer to the last one is waited for."""
        return self._confirmed or not self._asked or self._now() - self._asked_at >= RESEND_S

    def note(self, *, sent: bool) -> None:
        """Note a tick of the stream, and whether a command was `sent` in it: a trajectory is not due in each."""
        if self._confirmed:
            return
        now = self._now()
        if self._since is None:
            self._since = now
        if sent:
            self._asked, self._asked_at = self._known, now

    def check(self) -> Finding | None:
        """Return why the arm has to be held, None once commands may move it. Called before each command."""
        if self._publisher.get_subscription_count() == 0:
            self.reset()
            return finding("no_listener", joint=self._topic)
        if self._confirmed or self._since is None:
            return None
        self._known = self._known or self._driver_listens()
        # Only the acknowledgement of a command that was sent after the driver was found is its own.
        acknowledged = self._asked and self._publisher.wait_for_all_acked(Duration(nanoseconds=0))
        self._confirmed = acknowledged or self._now() - self._since > PATIENCE_S
        return None if self._confirmed else finding("driver_unconfirmed", joint=self._topic)

    def _driver_listens(self) -> bool:
        """Return whether a process that publishes joint states subscribes to the command topic."""
        listeners = {participant(info) for info in self._node.get_subscriptions_info_by_topic(self._topic)}
        return any(
            participant(info) in listeners
            for name, types in self._node.get_topic_names_and_types()
            if JOINT_STATE_TYPE in types
            for info in self._node.get_publishers_info_by_topic(name)
        )


def participant(info: Any) -> tuple[int, ...]:
    """Return the part of an endpoint's gid that names the DDS participant, and so the process, that it is in."""
    return tuple(info.endpoint_gid[:PARTICIPANT_BYTES])
