# SPDX-License-Identifier: Apache-2.0
"""Who asks for reduced speed: one word per publisher, and one that asks is enough. No rclpy."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass

MAX_PUBLISHERS = 32
"""Publishers whose words are kept; beyond, the oldest word counts as one of a publisher that has gone."""

ANONYMOUS = b""
"""Id of publishers that a middleware gives none: they share one word."""


@dataclass(slots=True)
class _Word:
    """What a publisher has said last.

    Attributes:
        asked: what it says.
        born: how many publishers had been heard when it was heard first, itself included.
        live: it has said something since this node listens, beside what it had latched.
        in_graph: the graph has shown it.
    """

    asked: bool
    born: int
    live: bool
    in_graph: bool = False


class ReducedSpeed:
    """Words of the publishers of a switch; every method may be called from any thread.

    A switch that asked for reduced speed and has gone goes on asking, until a publisher that came later says false: one
    that has said false all along knows nothing of why the other asked. One that the graph never showed has not gone.

    Args:
        asked: reduced speed is in force from the start, until somebody says false.
    """

    def __init__(self, *, asked: bool) -> None:
        self._lock = threading.Lock()
        self._words: dict[bytes, _Word] = {}
        self._heard = 0
        self._in_graph = 0
        self._left: int | None = 0 if asked else None
        """How many publishers had been heard when one that asked had gone."""

    @property
    def asked(self) -> bool:
        """Whether reduced speed is in force."""
        with self._lock:
            return self._left is not None or any(word.asked for word in self._words.values())

    def hear(self, publisher: bytes, asked: bool, *, live: bool) -> None:
        """Take a message.

        Args:
            publisher: id of its publisher; `ANONYMOUS` where none is known.
            asked: what it says.
            live: it was sent just now; False for one that may be latched, which counts where nothing newer is known.
        """
        with self._lock:
            word = self._words.get(publisher)
            if word is None:
                self._heard += 1
                word = self._words[publisher] = _Word(asked, self._heard, live)
                self._make_room()
            elif word.live and not live:
                return
            elif asked or publisher != ANONYMOUS or self._in_graph <= 1:
                word.asked, word.live = asked, word.live or live
            if live and not asked and self._left is not None and word.born > self._left:
                self._left = None

    def look(self, publishers: Collection[bytes]) -> None:
        """Take the ids of the publishers that there are now; an id of a message may be the beginning of one."""
        with self._lock:
            self._in_graph = len(publishers)
            for key, word in [(key, word) for key, word in self._words.items() if key != ANONYMOUS]:
                if any(one.startswith(key) for one in publishers):
                    word.in_graph = True
                elif word.in_graph:
                    self._leave(key)

    def _make_room(self) -> None:
        if len(self._words) > MAX_PUBLISHERS:
            # The words that ask are kept for as long as there are others; the newest one is being heard.
            others = list(self._words)[:-1]
            self._leave(next((key for key in others if not self._words[key].asked), others[0]))

    def _leave(self, publisher: bytes) -> None:
        if self._words.pop(publisher).asked:
            self._left = self._heard
