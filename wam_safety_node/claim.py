# SPDX-License-Identifier: Apache-2.0
"""The right of a safety node to command its robot: the lock of this host, and what the graph shows of other hosts.

Every safety node announces which lock it contends for (`~/_lease_ID`), and while it may command, that it does
(`~/_commanding`). With the lock in hand, a node that contends for the same one does not command: it waits, or was
killed and stays in the graph for up to 20 s. A node with another lock commands once it says so. Any other publisher of
a command topic does at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from std_msgs.msg import Empty

from wam.robots.description import CommandKind, RobotDescription
from wam.ros.inputs import UNKNOWN_NODE
from wam.ros.qos import EVENT
from wam.runtime.safety.lease import RobotHeld, RobotLease, robot_key
from wam_safety_node.handshake import PARTICIPANT_BYTES, participant
from wam_safety_node.outputs import OtherPublisher

LEASE = "_lease_"
COMMANDING = "_commanding"

ANNOUNCE_S = 0.3
"""Least time between saying that this node commands and doing so [s]: two that begin together hear of each other."""

POLL_S = 0.05

KNOWN = 64
"""Nodes that have gone and whose announcements are remembered: one that is being forgotten may come and go."""

Endpoint = tuple[tuple[int, ...], str]
"""Participant and full name of a node: a node of another name in the same process is another one."""


class Claim:
    """Holds the robot for one node, from `take` to `release`.

    Args:
        node: the safety node.
        topics: absolute names of its command topics; none where it commands nothing.
        known_at: moment of the monotonic clock at which other nodes are known to have been discovered [s].
        folder: of the locks; None takes that of this user.

    Raises:
        ConfigError: the lock cannot be opened.
    """

    def __init__(
        self, node: Any, topics: Iterable[str], *, known_at: float, folder: Path | None = None
    ) -> None:
        self._node = node
        self._known_at = known_at
        self._topics = tuple(topics)
        self.key = robot_key(node.context.get_domain_id(), self._topics)
        self._lease: RobotLease | None = None
        self._card: Any = None
        self._lock = threading.Lock()
        self._cards: dict[Endpoint, set[str]] = {}
        self._commanding: Any = None
        if self._topics:
            self._lease = RobotLease(self.key, owner=node.get_fully_qualified_name(), folder=folder)
            # Before the command publishers: whoever discovers those has discovered this.
            self._card = node.create_publisher(Empty, f"~/{LEASE}{self._lease.identity}", EVENT)

    @property
    def held(self) -> bool:
        """Whether this node may command the robot."""
        return self._commanding is not None

    def take(self, others: Any) -> None:
        """Take the robot; waits until other nodes are discovered.

        Args:
            others: called without arguments, returns the other publishers of the command topics.

        Raises:
            RobotHeld: another node commands the robot.
            ConfigError: the lock file was removed.
        """
        if self._lease is None or self.held:
            return
        self._lease.take()
        try:
            self._look_out(others, until=self._known_at)
            self._commanding = self._node.create_publisher(Empty, f"~/{COMMANDING}", EVENT)
            self._look_out(others, until=time.monotonic() + ANNOUNCE_S)
        except RobotHeld:
            self.release()
            raise

    def _look_out(self, others: Any, *, until: float) -> None:
        """Look for rivals until a moment of the monotonic clock [s], at least once."""
        while True:
            if rivals := self.rivals(others()):
                raise RobotHeld(
                    f"{rivals[0].topic} is published by {rivals[0].node} as well, and only one node may command the "
                    "robot; stop that one first (a node that was killed on another computer is gone after 20 s), "
                    "then activate this node"
                )
            left = until - time.monotonic()
            if left <= 0.0:
                return
            time.sleep(min(left, POLL_S))

    def release(self) -> None:
        """Give the robot back. Safe to call twice."""
        if self._commanding is not None:
            self._node.destroy_publisher(self._commanding)
            self._commanding = None
        if self._lease is not None:
            self._lease.release()

    def close(self) -> None:
        """Give the robot back and remove what announces this node."""
        self.release()
        if self._card is not None:
            self._node.destroy_publisher(self._card)
            self._card = None
        if self._lease is not None:
            self._lease.close()
            self._lease = None

    def rivals(self, others: list[OtherPublisher]) -> list[OtherPublisher]:
        """Return those of the other publishers of the command topics that may be commanding.

        A node that is being forgotten loses its publishers one after the other: what it announced once counts for its
        command publishers for as long as there are any. May be called from several threads.
        """
        lease = self._lease
        if not others or lease is None:
            return []
        names = [name for name, _ in self._node.get_topic_names_and_types()]
        here = {(one.gid[:PARTICIPANT_BYTES], one.node) for one in others}
        with self._lock:
            for name in names:
                if f"/{LEASE}" in name:
                    for who in self._behind([name]) & here:
                        self._cards.setdefault(who, set()).add(name.rpartition(LEASE)[2])
            for who in [one for one in self._cards if not any(_same(other, one) for other in here)][:-KNOWN]:
                del self._cards[who]
            cards = {who: announced for who in here if (announced := self._announced(who))}
        commanding = self._behind(names, f"/{COMMANDING}")
        quiet = {who for who in cards if not any(_same(who, one) for one in commanding)}
        if lease.held:
            quiet |= {who for who, known in cards.items() if lease.identity in known}
        return [one for one in others if (one.gid[:PARTICIPANT_BYTES], one.node) not in quiet]

    def _announced(self, who: Endpoint) -> set[str]:
        """Return the locks that a node has announced; of one without a name, those of its participant."""
        return {lock for one, locks in self._cards.items() if _same(who, one) for lock in locks}

    def _behind(self, names: list[str], ending: str = "") -> set[Endpoint]:
        """Return who publishes on the topics whose names have this ending."""
        return {
            (participant(info), f"{info.node_namespace.rstrip('/')}/{info.node_name}")
            for name in names
            if name.endswith(ending)
            for info in self._node.get_publishers_info_by_topic(name)
        }


def _same(who: Endpoint, other: Endpoint) -> bool:
    """Return whether `who` may be `other`: DDS gives a node its name late, and takes it away before its publishers."""
    return who[0] == other[0] and (who[1] == other[1] or who[1].endswith(UNKNOWN_NODE))


def command_topics(node: Any, robot: RobotDescription) -> list[str]:
    """Return the absolute names of the topics on which `robot` is commanded."""
    commanded = (group for group in robot.groups if group.command_kind is not CommandKind.NONE)
    return [node.resolve_topic_name(group.command_topic) for group in commanded]
