# SPDX-License-Identifier: Apache-2.0
"""Hand-over to another machine: the bytes travel inside the message. The last resort, measured in `wam bench`."""

from __future__ import annotations

import io
import re
import threading
from collections import deque
from typing import Generic, TypeVar

from wam.core.context import ContextHandle, ContextHeader, PlannerContext, Transport
from wam.core.errors import ContextError, ContextRecycled, ContextReleased, HandleRefused
from wam.core.policy import TensorCodec
from wam.core.transport.identity import new_token
from wam.core.transport.layout import check_table, payload_bytes
from wam.core.transport.lease import LeaseBook, PublicationOrder, ViewLease

T = TypeVar("T")

DEFAULT_LIMIT_BYTES = 1 << 28
"""Largest payload inside a message, by default (256 MiB)."""

_NAME = re.compile(
    r"inline\.(?P<token>[0-9a-f]{16})\.(?P<generation>\d{1,20})\.(?P<version>\d{1,20})", re.ASCII
)

_REMEMBERED_PUBLISHERS = 16


class InlinePublisher(Generic[T]):
    """Planner's end. Thread-safe.

    Args:
        codec: writes a payload into bytes.
        limit_bytes: largest payload it sends [bytes].
    """

    def __init__(self, codec: TensorCodec[T], *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._codec = codec
        self._limit_bytes = limit_bytes
        self._token = new_token()
        self._order = PublicationOrder()
        self._lock = threading.Lock()
        self._closed = False

    @property
    def transport(self) -> Transport:
        """How payloads travel."""
        return Transport.INLINE

    def publish(self, context: PlannerContext[T]) -> ContextHandle:
        """Return a handle that holds the payload itself. One copy, by the codec.

        Raises:
            ContextReleased: the publisher was closed.
            ContextError: the payload is larger than the limit.
            ValueError: the context is not newer than the last one.
        """
        specs = self._codec.specs(context.payload)
        total = payload_bytes(specs)
        if total > self._limit_bytes:
            raise ContextError(
                "planner context: too large for a message",
                value=f"{total} bytes",
                allowed=f"at most {self._limit_bytes} bytes",
                where="the planner's parameter `transport` (shared_memory on one host)",
            )
        with self._lock:
            if self._closed:
                raise ContextReleased("planner context: the publisher is closed")
            self._order.advance(context.header)
        # BytesIO gives its own buffer away as bytes, so that the payload is written once and not copied again.
        buffer = io.BytesIO(bytes(total))
        room = buffer.getbuffer()
        self._codec.write(context.payload, room)
        room.release()
        name = f"inline.{self._token}.{context.header.generation}.{context.header.version}"
        return ContextHandle(Transport.INLINE, name, specs, total, buffer.getvalue())

    def leases(self) -> int:
        """Return 0: a reader of a message holds nothing of the planner's."""
        return 0

    def close(self) -> None:
        """Publish no more. What was sent belongs to its readers, who notice when a successor sends."""
        with self._lock:
            self._closed = True


class InlineReader(Generic[T]):
    """Executor's end. A handle of a new publisher, or of a newer generation, retires all older leases.

    Args:
        codec: makes a payload of views from bytes.
        limit_bytes: largest payload it accepts [bytes].
    """

    def __init__(self, codec: TensorCodec[T], *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._codec = codec
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._epoch: tuple[str, int] | None = None
        self._gone: deque[str] = deque(maxlen=_REMEMBERED_PUBLISHERS)
        self._book: LeaseBook[T] = LeaseBook()

    def open(self, header: ContextHeader, handle: ContextHandle) -> ViewLease[T]:
        """Lease the context inside `handle`; its tensors are read-only views of the handle's bytes.

        Raises:
            HandleRefused: the handle is malformed or its bytes are not as long as it says.
            ContextReleased: it comes from a planner that has been replaced.
            ContextRecycled: it belongs to a generation that has ended.
        """
        match = _NAME.fullmatch(handle.name) if handle.transport is Transport.INLINE else None
        if match is None:
            raise HandleRefused(
                "context handle: name", value=handle.name[:160], allowed="inline.TOKEN.GENERATION.VERSION"
            )
        if (int(match["generation"]), int(match["version"])) != (header.generation, header.version):
            raise HandleRefused(f"context handle: name {handle.name!r} and its header refer to two contexts")
        check_table(handle.specs, handle.total_bytes, limit_bytes=self._limit_bytes)
        if len(handle.data) != handle.total_bytes:
            raise HandleRefused(
                "context handle: bytes in the message",
                value=len(handle.data),
                allowed=f"{handle.total_bytes}",
            )
        epoch = self._enter_epoch(match["token"], header)
        payload = self._codec.read(handle.specs, memoryview(handle.data))

        def check() -> None:
            if self._epoch != epoch:
                raise ContextReleased(
                    f"planner context (generation {header.generation}, version {header.version}): "
                    "its planner was restarted or began a new generation"
                )

        return self._book.add(ViewLease(PlannerContext(header, payload), check))

    def close(self) -> None:
        """Release every lease."""
        self._book.release_all()

    def _enter_epoch(self, token: str, header: ContextHeader) -> tuple[str, int]:
        epoch = (token, header.generation)
        with self._lock:
            if token in self._gone:
                raise ContextReleased(f"planner context of publisher {token}: that planner was replaced")
            current = self._epoch
            if current is not None and current[0] == token and header.generation < current[1]:
                raise ContextRecycled(
                    f"planner context of generation {header.generation}: generation {current[1]} has begun"
                )
            if current is not None and current[0] != token:
                self._gone.append(current[0])
            self._epoch = epoch
        return epoch
