# SPDX-License-Identifier: Apache-2.0
"""What the transports share: leases on contexts whose bytes lie elsewhere, and the order of publications."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

from wam.core.context import ContextHeader, PlannerContext
from wam.core.errors import ContextReleased

T = TypeVar("T")


class ViewLease(Generic[T]):
    """The right to read a context whose tensors are views of bytes elsewhere. Thread-safe.

    Args:
        context: the context; its payload's views keep the bytes alive.
        check: raises once the bytes may no longer be read; called by every `get`.
    """

    def __init__(self, context: PlannerContext[T], check: Callable[[], None]) -> None:
        self.header: ContextHeader = context.header
        self._held: tuple[PlannerContext[T], Callable[[], None]] | None = (context, check)
        self._lock = threading.Lock()

    @property
    def released(self) -> bool:
        """Whether the lease was released."""
        return self._held is None

    def get(self) -> PlannerContext[T]:
        """Return the context.

        Raises:
            ContextReleased: the lease was released, or the planner retired the context.
        """
        held = self._held
        if held is None:
            header = self.header
            raise ContextReleased(
                f"planner context (generation {header.generation}, version {header.version}): "
                "the lease was released"
            )
        context, check = held
        check()
        return context

    def release(self) -> None:
        """Release the lease; safe to call twice."""
        with self._lock:
            self._held = None

    def __enter__(self) -> ViewLease[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class LeaseBook(Generic[T]):
    """The leases that one reader has given out. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leases: list[ViewLease[T]] = []

    def add(self, lease: ViewLease[T]) -> ViewLease[T]:
        """Note a lease and return it."""
        with self._lock:
            self._leases = [one for one in self._leases if not one.released]
            self._leases.append(lease)
        return lease

    def release_all(self) -> None:
        """Release every lease."""
        with self._lock:
            leases, self._leases = self._leases, []
        for lease in leases:
            lease.release()


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
