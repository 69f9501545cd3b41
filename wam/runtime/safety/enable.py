# SPDX-License-Identifier: Apache-2.0
"""The enabling device (deadman switch): the arm moves only while a fresh true is held. No rclpy."""

from __future__ import annotations

import threading
from collections.abc import Callable

from wam.core.clock import NS_PER_MS
from wam.core.ladder import finding
from wam.core.verdict import Finding

MAX_AGE_NS = 200 * NS_PER_MS
"""A true is good for this long [ns]."""

MAX_PUBLISHERS = 32
"""Publishers whose words are kept; where there are more, nothing is enabled."""

OTHERS = b"others"
"""Stands for the publishers beyond; ids are longer."""


class EnablingDevice:
    """Whether motion is enabled; every method may be called from any thread.

    Every publisher that was heard within the allowed age must say true, so one device cannot overrule another.

    Args:
        clock: monotonic time [ns].
        max_age_ns: a message older than this counts for nothing [ns].
    """

    def __init__(self, *, clock: Callable[[], int], max_age_ns: int = MAX_AGE_NS) -> None:
        self._clock = clock
        self._max_age_ns = max_age_ns
        self._lock = threading.Lock()
        self._votes: dict[bytes, tuple[int, bool]] = {}
        self._heard_ns = clock()

    def hear(self, publisher: bytes, enabled: bool) -> None:
        """Take a live message.

        Args:
            publisher: id of its publisher.
            enabled: what it says.
        """
        with self._lock:
            now_ns = self._clock()
            self._votes = {key: vote for key, vote in self._votes.items() if self._fresh(vote[0], now_ns)}
            if publisher not in self._votes and len(self._votes) >= MAX_PUBLISHERS:
                publisher, enabled = OTHERS, False
            self._votes[publisher] = (now_ns, enabled)

    def finding(self) -> Finding | None:
        """Return why the arm must not move, or None while it is enabled."""
        with self._lock:
            now_ns = self._clock()
            votes = [says for heard_ns, says in self._votes.values() if self._fresh(heard_ns, now_ns)]
            if votes and all(votes):
                self._heard_ns = now_ns
                return None
            age = (now_ns - self._heard_ns) * 1e-9
        return finding("not_enabled", value=age, limit=self._max_age_ns * 1e-9)

    def _fresh(self, heard_ns: int, now_ns: int) -> bool:
        return now_ns - heard_ns <= self._max_age_ns
