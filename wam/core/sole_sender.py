# SPDX-License-Identifier: Apache-2.0
"""One publisher at a time: which sender of a topic is listened to."""

from __future__ import annotations

from collections.abc import Callable

MAX_SENDERS = 32
"""Senders remembered; whoever makes more publishers than that must not fill the memory."""

PARTICIPANT_BYTES = 12
"""Leading bytes of a publisher's gid that name its participant, a process or a context within it (RTPS GUID)."""

NameOf = Callable[[bytes], str | None]
"""Takes a publisher's gid; returns the full name of its node, None while the graph does not know it."""


class SoleSender:
    """Chooses the publisher of a topic by its gid and keeps to it; one thread.

    The first one that speaks is chosen. It is released once it has been silent for `release_ns`: the next one that
    speaks is then chosen, so that a restarted node is followed. A publisher of the node `node` takes over at once
    from one of another node, and never the other way round; `strict` listens to no other node at all.

    Args:
        node: full name of the node that is expected to publish, or "".
        strict: nobody else is listened to.
        release_ns: silence after which the chosen publisher is released [ns].
        name_of: finds a publisher's node.
    """

    def __init__(self, *, node: str, strict: bool, release_ns: int, name_of: NameOf) -> None:
        self._node = node
        self._strict = strict and bool(node)
        self._release_ns = release_ns
        self._name_of = name_of
        self._names: dict[bytes, str] = {}
        self._chosen: bytes | None = None
        self._last_ns = 0

    @property
    def chosen(self) -> bytes | None:
        """The gid of the publisher that is listened to; None before the first."""
        return self._chosen

    def admit(self, sender: bytes, receive_ns: int) -> str:
        """Return "" where a message of `sender`, received at `receive_ns` [ns], is listened to, else why not."""
        why = self.hear(sender, receive_ns)
        if not why:
            self.choose(sender, receive_ns)
        return why

    def hear(self, sender: bytes, receive_ns: int) -> str:
        """Return "" where `sender`, which speaks at `receive_ns` [ns], may be chosen, else why not."""
        if sender != self._chosen and not self._may_take_over(sender, receive_ns):
            return self._why_not(sender)
        return ""

    def choose(self, sender: bytes, receive_ns: int) -> None:
        """Listen to `sender` as of `receive_ns` [ns]; to be called after `hear` had nothing against it."""
        self._chosen, self._last_ns = sender, receive_ns

    def describe(self, sender: bytes) -> str:
        """Return a text that names a publisher: its node, and its participant, since two nodes may share a name."""
        return f"{self._name(sender) or 'an unknown node'} (participant {sender[:PARTICIPANT_BYTES].hex()})"

    def _may_take_over(self, sender: bytes, receive_ns: int) -> bool:
        if self._node and (self._strict or self._chosen is not None):
            expected = self._name(sender) == self._node
            if self._strict and not expected:
                return False
            if expected and self._chosen is not None and self._name(self._chosen) != self._node:
                return True
        # Of a simulated clock that was set back nothing is known either.
        return self._chosen is None or abs(receive_ns - self._last_ns) > self._release_ns

    def _why_not(self, sender: bytes) -> str:
        if self._strict and self._name(sender) != self._node:
            return f"sent by {self.describe(sender)}; allowed: {self._node}"
        assert self._chosen is not None
        return f"sent by {self.describe(sender)} while {self.describe(self._chosen)} publishes; only one may"

    def _name(self, sender: bytes) -> str | None:
        name = self._names.get(sender)
        if name is None:
            name = self._name_of(sender)
            if name is not None:
                if len(self._names) >= MAX_SENDERS:
                    self._names.pop(next(iter(self._names)))
                self._names[sender] = name
        return name
