# SPDX-License-Identifier: Apache-2.0
"""Who asks for reduced speed: one word per publisher, and one that asks is enough. No rclpy."""

from __future__ import annotations

import threading
from collections.abc import Collection

MAX_PUBLISHERS = 32
"""Publishers whose words are kept; beyond, the oldest word counts as one of a publisher that has gone."""


class ReducedSpeed:
    """Words of the publishers of a switch; every method may be called from any thread.

    A switch that asked for reduced speed and has gone goes on asking until somebody says false.

    Args:
        asked: reduced speed is in force from the start, until somebody says false.
    """

    def __init__(self, *, asked: bool) -> None:
        self._lock = threading.Lock()
        self._left = asked
        self._words: dict[bytes, bool] = {}
        self._live: set[bytes] = set()

    @property
    def asked(self) -> bool:
        """Whether reduced speed is in force."""
        with self._lock:
            return self._left or any(self._words.values())

    def hear(self, publisher: bytes, asked: bool, *, live: bool) -> None:
        """Take a message.

        Args:
            publisher: id of its publisher.
            asked: what it says.
            live: it was sent just now; False for one that may be latched, which counts where nothing newer is known.
        """
        with self._lock:
            if live:
                self._live.add(publisher)
                self._left = self._left and asked
            elif publisher in self._live:
                return
            self._words[publisher] = asked
            if len(self._words) > MAX_PUBLISHERS:
                self._leave(next(iter(self._words)))

    def look(self, publishers: Collection[bytes]) -> None:
        """Take the ids of the publishers that there are now."""
        with self._lock:
            for one in [key for key in self._words if key not in publishers]:
                self._leave(one)

    def _leave(self, publisher: bytes) -> None:
        self._left = self._words.pop(publisher) or self._left
        self._live.discard(publisher)
