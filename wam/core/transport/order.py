# SPDX-License-Identifier: Apache-2.0
"""The order in which one publisher may publish."""

from __future__ import annotations

from wam.core.context import ContextHeader


class PublicationOrder:
    """Holds a publisher to rising (generation, version). Not thread-safe: the publisher locks."""

    def __init__(self) -> None:
        self._newest: ContextHeader | None = None

    def advance(self, header: ContextHeader) -> bool:
        """Note a publication; return whether it begins a new generation.

        Raises:
            ValueError: generation or version is below 1, or not newer than the last publication.
        """
        if header.generation < 1 or header.version < 1:
            raise ValueError(
                f"context generation {header.generation}, version {header.version}: both count from 1"
            )
        newest = self._newest
        if not header.newer_than(newest):
            assert newest is not None
            raise ValueError(
                f"context (generation {header.generation}, version {header.version}) published after "
                f"({newest.generation}, {newest.version}); publications must rise"
            )
        self._newest = header
        return newest is not None and header.generation > newest.generation
