# SPDX-License-Identifier: Apache-2.0
"""Hand-over within one process: the reader leases the planner's own tensors and nothing is copied.

    publisher.publish(context) -> handle (a few numbers) -> reader.open(handle) -> lease.get() -> context

A context lives while it is one of the newest `keep` or while a reader leases it. Afterwards its slot is
free for another one; the serial numbers in the handle tell the two apart.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

from wam.core.context import ContextHandle, ContextHeader, PlannerContext, Transport
from wam.core.errors import ContextError, ContextRecycled, ContextReleased, HandleRefused
from wam.core.policy import TensorCodec
from wam.core.transport.identity import ProcessIdentity, new_token, this_process
from wam.core.transport.layout import payload_bytes
from wam.core.transport.lease import PublicationOrder

T = TypeVar("T")

_NAME = re.compile(
    r"in_process\.(?P<pid>\d{1,10})\.(?P<start>\d{1,20})\.(?P<token>[0-9a-f]{16})"
    r"\.(?P<slot>\d{1,4})\.(?P<generation>\d{1,20})\.(?P<version>\d{1,20})",
    re.ASCII,
)


@dataclass(slots=True)
class _Entry(Generic[T]):
    """One publication. `context` is None once it is retired; all fields change under the registry's lock."""

    header: ContextHeader
    context: PlannerContext[T] | None
    leases: int = 0


class InProcessRegistry:
    """Registry shared by the publishers and readers of one process. Thread-safe.

    Every publisher and reader uses the process's own registry unless it is given another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._publishers: dict[str, InProcessPublisher[Any]] = {}

    def _register(self, publisher: InProcessPublisher[Any]) -> None:
        with self._lock:
            older = [p for p in self._publishers.values() if p.owner == publisher.owner]
            self._publishers[publisher.token] = publisher
        for one in older:
            one.close()

    def _forget(self, token: str) -> None:
        with self._lock:
            self._publishers.pop(token, None)

    def _find(self, token: str) -> InProcessPublisher[Any] | None:
        with self._lock:
            return self._publishers.get(token)


PROCESS_REGISTRY = InProcessRegistry()
"""The registry of this process."""


class InProcessPublisher(Generic[T]):
    """Planner's end. Publishing hands over references; the planner never writes to them again.

    Args:
        codec: gives the tensor table of a payload; its `write` is never called.
        owner: name of the node. A second publisher of the same owner retires the contexts of the first,
            as a restarted planner must.
        keep: newest contexts that stay readable without a lease.
        max_slots: most contexts alive at one time, leased ones included.
        registry: where readers look; the process's own by default.
    """

    def __init__(
        self,
        codec: TensorCodec[T],
        *,
        owner: str = "wam_planner",
        keep: int = 2,
        max_slots: int = 8,
        registry: InProcessRegistry = PROCESS_REGISTRY,
    ) -> None:
        if not 1 <= keep < max_slots:
            raise ValueError(f"keep {keep} must be at least 1 and below max_slots {max_slots}")
        self.owner = owner
        self.token = new_token()
        self._codec = codec
        self._keep = keep
        self._max_slots = max_slots
        self._registry = registry
        process = this_process()
        self._prefix = f"in_process.{process.pid}.{process.start_ticks}.{self.token}."
        self._lock = threading.Lock()
        self._slots: list[_Entry[T]] = []
        self._newest: deque[_Entry[T]] = deque()
        self._order = PublicationOrder()
        self._closed = False
        registry._register(self)

    @property
    def transport(self) -> Transport:
        """How payloads travel."""
        return Transport.IN_PROCESS

    def publish(self, context: PlannerContext[T]) -> ContextHandle:
        """Make `context` readable and return its handle. Copies nothing.

        Raises:
            ContextReleased: the publisher was closed.
            ContextError: readers hold leases on all slots.
            ValueError: the context is not newer than the last one.
        """
        specs = self._codec.specs(context.payload)
        header = context.header
        with self._lock:
            if self._closed:
                raise ContextReleased(f"planner context: the publisher of {self.owner!r} is closed")
            index = self._free_slot()
            if self._order.advance(header):
                for older in self._slots:
                    older.context = None
                self._newest.clear()
            entry = _Entry(header, context)
            if index == len(self._slots):
                self._slots.append(entry)
            else:
                self._slots[index] = entry
            self._newest.append(entry)
            while len(self._newest) > self._keep:
                self._drop_if_unused(self._newest.popleft())
        name = f"{self._prefix}{index}.{header.generation}.{header.version}"
        return ContextHandle(Transport.IN_PROCESS, name, specs, payload_bytes(specs))

    def leases(self) -> int:
        """Return how many contexts readers hold at this moment."""
        with self._lock:
            return sum(entry.leases > 0 for entry in self._slots)

    def close(self) -> None:
        """Retire every context; readers' leases raise from then on. Safe to call twice."""
        with self._lock:
            self._closed = True
            for entry in self._slots:
                entry.context = None
            self._newest.clear()
        self._registry._forget(self.token)

    def _free_slot(self) -> int:
        """Return the index of a slot that is neither leased nor among the newest; the list may grow."""
        for index, entry in enumerate(self._slots):
            if entry.leases == 0 and not any(entry is one for one in self._newest):
                return index
        if len(self._slots) < self._max_slots:
            return len(self._slots)
        raise ContextError(
            "planner context: readers hold leases on all slots",
            value=f"{self._max_slots} slots",
            allowed="readers that release a context once they have a newer one",
            where="the reader that does not release its leases",
        )

    def _drop_if_unused(self, entry: _Entry[T]) -> None:
        if entry.leases == 0 and not any(entry is one for one in self._newest):
            entry.context = None

    def _lease(self, header: ContextHeader, slot: int) -> _Entry[T]:
        """Count a reader of the context `header` in `slot`."""
        with self._lock:
            if slot >= len(self._slots):
                raise HandleRefused("context handle: slot", value=slot, allowed=f"below {len(self._slots)}")
            entry = self._slots[slot]
            held = entry.header
            if (held.generation, held.version) != (header.generation, header.version):
                raise ContextRecycled(_recycled(header, held))
            if entry.context is None:
                raise ContextReleased(f"planner context {_label(header)}: no longer kept by its planner")
            if (held.stamp_ns, held.contract_hash) != (header.stamp_ns, header.contract_hash):
                raise HandleRefused(
                    f"planner context {_label(header)}: stamp or contract hash differ from what was published"
                )
            entry.leases += 1
            return entry

    def _give_back(self, entry: _Entry[T]) -> None:
        with self._lock:
            entry.leases -= 1
            self._drop_if_unused(entry)


class InProcessLease(Generic[T]):
    """The right to read one context of this process. Thread-safe."""

    def __init__(self, publisher: InProcessPublisher[T], entry: _Entry[T]) -> None:
        self._publisher = publisher
        self._entry: _Entry[T] | None = entry
        self._header = entry.header
        self._lock = threading.Lock()

    def get(self) -> PlannerContext[T]:
        """Return the context: the very object that was published.

        Raises:
            ContextReleased: the lease was released, the planner was closed or restarted, or it began a
                new generation.
        """
        entry = self._entry
        if entry is None:
            raise ContextReleased(f"planner context {_label(self._header)}: the lease was released")
        context = entry.context
        if context is None:
            raise ContextReleased(f"planner context {_label(self._header)}: its planner retired it")
        return context

    def release(self) -> None:
        """Release the lease; safe to call twice."""
        with self._lock:
            entry, self._entry = self._entry, None
        if entry is not None:
            self._publisher._give_back(entry)

    def __enter__(self) -> InProcessLease[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class InProcessReader(Generic[T]):
    """Executor's end: opens handles made by a publisher of the same process."""

    def __init__(self, *, registry: InProcessRegistry = PROCESS_REGISTRY) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._open: list[InProcessLease[T]] = []

    def open(self, header: ContextHeader, handle: ContextHandle) -> InProcessLease[T]:
        """Lease the context that `handle` names.

        Raises:
            HandleRefused: the handle is malformed, of another process, or does not fit `header`.
            ContextReleased: the publisher is gone, or no longer keeps the context.
            ContextRecycled: the slot holds another context now.
        """
        match = _NAME.fullmatch(handle.name) if handle.transport is Transport.IN_PROCESS else None
        if match is None:
            raise HandleRefused(
                "context handle: name",
                value=handle.name[:160],
                allowed="in_process.PID.START.TOKEN.SLOT.GENERATION.VERSION",
            )
        owner = ProcessIdentity(int(match["pid"]), int(match["start"]))
        if owner != this_process():
            raise HandleRefused(
                f"context handle: it belongs to process {owner.pid}",
                allowed="a handle of this process",
                where="the planner's parameter `transport`",
            )
        if (int(match["generation"]), int(match["version"])) != (header.generation, header.version):
            raise HandleRefused(
                f"context handle: name {handle.name!r} and header {_label(header)} refer to two contexts"
            )
        publisher = self._registry._find(match["token"])
        if publisher is None:
            raise ContextReleased(f"planner context {_label(header)}: its planner is gone")
        entry = publisher._lease(header, int(match["slot"]))
        lease: InProcessLease[T] = InProcessLease(publisher, entry)
        with self._lock:
            self._open = [one for one in self._open if one._entry is not None]
            self._open.append(lease)
        return lease

    def close(self) -> None:
        """Release every lease."""
        with self._lock:
            leases, self._open = self._open, []
        for lease in leases:
            lease.release()


def _label(header: ContextHeader) -> str:
    return f"(generation {header.generation}, version {header.version})"


def _recycled(wanted: ContextHeader, held: ContextHeader) -> str:
    return f"planner context {_label(wanted)}: its slot holds {_label(held)} now"
