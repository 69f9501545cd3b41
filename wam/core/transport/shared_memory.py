# SPDX-License-Identifier: Apache-2.0
"""Hand-over between two processes of one host: the tensors are written once and read where they lie.

    planner:   codec.write(payload) -> segment (segment.py) -> handle: its name and the tensor table
    executor:  check name, owner, size -> lock -> map read-only -> codec.read(...) views -> lease

A view that a reader still holds after `release` keeps its mapping and its lock: it never shows another
context, and the planner takes another segment meanwhile. docs/explanation/context-handover.md has the
whole argument.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Generic, TypeVar

from wam.core.context import ContextHandle, ContextHeader, PlannerContext, Transport
from wam.core.errors import ContextReleased, HandleRefused
from wam.core.policy import TensorCodec
from wam.core.transport.layout import MAX_PAYLOAD_BYTES, check_table, payload_bytes, table_checksum
from wam.core.transport.lease import LeaseBook, ViewLease
from wam.core.transport.segment import SHM_DIRECTORY, MappedSegment, SegmentName, map_segment
from wam.core.transport.slots import SlotPool

T = TypeVar("T")


class SharedMemoryPublisher(Generic[T]):
    """Planner's end. At its start it removes what dead processes of this user left behind.

    Args:
        codec: writes a payload into a segment.
        owner: name of the node. A second publisher of the same owner retires the contexts of the first.
        keep: newest contexts that stay readable without a lease.
        max_slots: most segments, those that readers hold included.
        directory: where segments live.

    Raises:
        ConfigError: this system has no such directory.
    """

    def __init__(
        self,
        codec: TensorCodec[T],
        *,
        owner: str = "wam_planner",
        keep: int = 2,
        max_slots: int = 8,
        directory: Path = SHM_DIRECTORY,
    ) -> None:
        self._codec = codec
        self._pool = SlotPool(owner=owner, keep=keep, max_slots=max_slots, directory=directory)

    @property
    def transport(self) -> Transport:
        """How payloads travel."""
        return Transport.SHARED_MEMORY

    @property
    def swept(self) -> tuple[str, ...]:
        """Names of the segments of dead processes that were removed at the start."""
        return self._pool.swept

    def publish(self, context: PlannerContext[T]) -> ContextHandle:
        """Write `context` into a segment and return its handle. One copy, by the codec.

        Raises:
            ContextReleased: the publisher was closed.
            ContextError: readers hold every slot, or shared memory is full.
            ValueError: the context is not newer than the last one.
        """
        specs = self._codec.specs(context.payload)
        total = payload_bytes(specs)
        name = self._pool.write(
            context.header,
            payload_bytes=total,
            table_crc=table_checksum(specs),
            fill=lambda name, room: self._codec.write(context.payload, room),
        )
        return ContextHandle(Transport.SHARED_MEMORY, str(name), specs, total)

    def leases(self) -> int:
        """Return how many contexts readers hold at this moment, views held after release included."""
        return self._pool.leases()

    def close(self) -> None:
        """Retire every context and remove its memory; readers' leases raise from then on."""
        self._pool.close()


class SharedMemoryReader(Generic[T]):
    """Executor's end. Nothing is mapped before the handle has passed every check.

    Args:
        codec: makes a payload of views from bytes.
        directory: where segments live.
        limit_bytes: largest payload it accepts [bytes].
    """

    def __init__(
        self,
        codec: TensorCodec[T],
        *,
        directory: Path = SHM_DIRECTORY,
        limit_bytes: int = MAX_PAYLOAD_BYTES,
    ) -> None:
        self._codec = codec
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._book: LeaseBook[T] = LeaseBook()

    def open(self, header: ContextHeader, handle: ContextHandle) -> ViewLease[T]:
        """Lease the context that `handle` names. Its tensors are read-only views; nothing is copied.

        Raises:
            HandleRefused: the handle is malformed, or its segment is another user's, another table's or
                too short.
            ContextReleased: the publisher is gone or retired the context.
            ContextRecycled: the segment holds another context now.
        """
        segment = lease_segment(
            header, handle, Transport.SHARED_MEMORY, directory=self._directory, limit_bytes=self._limit_bytes
        )
        payload = self._codec.read(handle.specs, segment.payload)

        def check() -> None:
            if not segment.ready:
                raise ContextReleased(f"planner context {segment.header.name}: its planner retired it")

        return self._book.add(ViewLease(PlannerContext(header, payload), check))

    def close(self) -> None:
        """Release every lease."""
        self._book.release_all()


def lease_segment(
    header: ContextHeader,
    handle: ContextHandle,
    transport: Transport,
    *,
    directory: Path,
    limit_bytes: int,
    segment_bytes: int | None = None,
) -> MappedSegment:
    """Check `handle` and map the segment it names.

    Args:
        header: header of the message that brought the handle.
        handle: the handle as it arrived.
        transport: the transport that opens it.
        directory: where segments live.
        limit_bytes: largest payload accepted [bytes].
        segment_bytes: size of the segment's own payload where that is not the tensors [bytes].

    Raises:
        HandleRefused: the handle or its segment fails a check; nothing was mapped.
        ContextReleased: the segment is gone or retired.
        ContextRecycled: it holds another context now.
    """
    name = SegmentName.parse(handle.name)
    if handle.transport is not transport or name is None or name.slot == "owner":
        raise HandleRefused(
            "context handle: name",
            value=handle.name[:160],
            allowed=f"wam_ctx.UID.PID.START.TOKEN.SLOT of transport {transport.name}",
        )
    if name.uid != os.geteuid():
        raise HandleRefused(
            "context handle: it belongs to another user", value=name.uid, allowed=f"uid {os.geteuid()}"
        )
    check_table(handle.specs, handle.total_bytes, limit_bytes=limit_bytes)
    return map_segment(
        directory,
        name,
        payload_bytes=handle.total_bytes if segment_bytes is None else segment_bytes,
        generation=header.generation,
        version=header.version,
        table_crc=table_checksum(handle.specs),
    )
