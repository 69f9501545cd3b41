# SPDX-License-Identifier: Apache-2.0
"""The segments of one publisher: which one to write next, and what a dead publisher left."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from wam.core.context import ContextHeader
from wam.core.errors import ConfigError, ContextError, ContextReleased
from wam.core.transport.identity import ProcessIdentity, is_alive, new_token, this_process
from wam.core.transport.lease import PublicationOrder
from wam.core.transport.segment import SHM_DIRECTORY, OwnedSegment, SegmentHeader, SegmentName, retire_file


class SlotPool:
    """Segments of one publisher, written in turn. Thread-safe.

    A segment is written again only while no reader has it mapped and it is not among the newest `keep`.

    Args:
        owner: name of the node. A second pool of the same owner in this process retires the first.
        keep: newest publications that stay readable without a lease.
        max_slots: most segments; each is created when it is first needed.
        directory: where segments live.

    Attributes:
        swept: names of the segments of dead processes that were removed at the start.

    Raises:
        ConfigError: `directory` does not exist.
    """

    def __init__(self, *, owner: str, keep: int, max_slots: int, directory: Path = SHM_DIRECTORY) -> None:
        if not 1 <= keep < max_slots:
            raise ValueError(f"keep {keep} must be at least 1 and below max_slots {max_slots}")
        if not directory.is_dir():
            raise ConfigError(
                "planner context: directory for shared memory",
                value=str(directory),
                allowed="a directory (Linux has /dev/shm)",
                where="the planner's parameter `transport` (use in_process or inline)",
            )
        self._owner = owner
        self._keep = keep
        self._max_slots = max_slots
        self._directory = directory
        self._lock = threading.Lock()
        self._order = PublicationOrder()
        self._newest: deque[OwnedSegment] = deque()
        self.swept = sweep(directory)
        self._process = this_process()
        self._token, lock_fd = _take_owner_lock(directory, self._process)
        self._segments: list[OwnedSegment] = []
        lock_path = directory / str(self._name("owner"))
        # Also runs when the pool is forgotten and at a normal exit of the interpreter.
        self._finalizer = weakref.finalize(
            self, _remove_all, self._process, self._segments, lock_path, lock_fd
        )
        with _LIVE_LOCK:
            older = _LIVE.get((directory, owner))
            _LIVE[(directory, owner)] = self
        if older is not None:
            older.close()

    def write(
        self,
        header: ContextHeader,
        *,
        payload_bytes: int,
        table_crc: int,
        fill: Callable[[SegmentName, memoryview], None],
    ) -> SegmentName:
        """Publish one payload and return the name of its segment.

        Args:
            header: gives generation and version.
            payload_bytes: size of the payload [bytes].
            table_crc: CRC-32 of the tensor table.
            fill: writes the payload of the named segment into the bytes it is given; it keeps no view of them.

        Raises:
            ContextReleased: the pool was closed, or belongs to the parent of this process.
            ContextError: readers hold every slot, or shared memory is full.
            ValueError: the context is not newer than the last one.
        """
        with self._lock:
            if not self._finalizer.alive or this_process() != self._process:
                raise ContextReleased(f"planner context: the publisher of {self._owner!r} is closed")
            segment = self._claim(payload_bytes)
            try:
                if self._order.advance(header):
                    for older in self._segments:
                        older.retire()
                    self._newest.clear()
                room = segment.begin(
                    SegmentHeader(
                        name=segment.name,
                        owner_key=owner_key(self._owner),
                        generation=header.generation,
                        version=header.version,
                        payload_bytes=payload_bytes,
                        table_crc=table_crc,
                    )
                )
                fill(segment.name, room)
            except BaseException:
                segment.unclaim()
                raise
            segment.finish()
            self._newest.append(segment)
            if len(self._newest) > self._keep:
                self._newest.popleft()
            return segment.name

    def leases(self) -> int:
        """Return how many segments readers have mapped at this moment."""
        with self._lock:
            return sum(segment.is_read() for segment in self._segments) if self._finalizer.alive else 0

    def close(self) -> bool:
        """Retire and remove every segment; safe to call twice, and harmless in a forked child.

        Returns:
            whether a reader still has a segment mapped, now that no further one can.
        """
        with self._lock:
            if not self._finalizer.alive or this_process() != self._process:
                return False
            self._newest.clear()
            for segment in self._segments:
                segment.retire()
            read = any(segment.is_read() for segment in self._segments)
            self._finalizer()
            return read

    def _name(self, slot: str) -> SegmentName:
        return SegmentName(os.geteuid(), self._process, self._token, slot)

    def _claim(self, payload_bytes: int) -> OwnedSegment:
        """Return a segment that is large enough and locked for writing."""
        # The least recently written comes first, so that a handle on its way stays good for longest.
        for segment in list(self._segments):
            if segment in self._newest or not segment.try_claim():
                continue
            self._segments.remove(segment)
            if segment.capacity >= payload_bytes:
                self._segments.append(segment)
                return segment
            segment.remove()
            return self._create(segment.name.slot, payload_bytes)
        if len(self._segments) < self._max_slots:
            taken = {segment.name.slot for segment in self._segments}
            slot = next(str(n) for n in range(self._max_slots) if str(n) not in taken)
            return self._create(slot, payload_bytes)
        raise ContextError(
            "planner context: readers hold all slots of shared memory",
            value=f"{self._max_slots} slots of {self._owner!r}",
            allowed="readers that release a context, and drop their arrays, once they have a newer one",
            where="the reader that does not release its leases",
        )

    def _create(self, slot: str, payload_bytes: int) -> OwnedSegment:
        segment = OwnedSegment(self._directory, self._name(slot), payload_bytes)
        segment.try_claim()
        self._segments.append(segment)
        return segment


_LIVE: weakref.WeakValueDictionary[tuple[Path, str], SlotPool] = weakref.WeakValueDictionary()
_LIVE_LOCK = threading.Lock()


def owner_key(owner: str) -> str:
    """Return the node name as it stands in a segment: itself, or its SHA-256 where it is longer than 64 bytes."""
    data = owner.encode()
    return owner if len(data) <= 64 else hashlib.sha256(data).hexdigest()


def sweep(directory: Path = SHM_DIRECTORY) -> tuple[str, ...]:
    """Retire and remove the segments of this user whose publisher is dead; return their names.

    A publisher counts as alive while its process runs or its lock is held; the lock reveals a process in
    another container that shares /dev/shm but not the pid namespace.
    """
    publishers: dict[tuple[ProcessIdentity, str], list[SegmentName]] = {}
    for entry in os.listdir(directory):
        name = SegmentName.parse(entry)
        if name is not None and name.uid == os.geteuid():
            publishers.setdefault((name.owner, name.token), []).append(name)
    removed: list[str] = []
    for (owner, token), names in publishers.items():
        lock_path = directory / str(SegmentName(os.geteuid(), owner, token, "owner"))
        if is_alive(owner):
            continue
        with _owner_lock(lock_path) as free:
            if not free:
                continue
            # The lock file goes last: until then the group is recognisable as dead.
            for name in sorted(names, key=lambda n: n.slot == "owner"):
                retire_file(directory / str(name))
                removed.append(str(name))
    return tuple(removed)


@contextlib.contextmanager
def _owner_lock(path: Path) -> Iterator[bool]:
    """Hold the lock of a publisher while its files are removed; False where the publisher itself holds it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        yield True
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(fd)


def _take_owner_lock(directory: Path, process: ProcessIdentity) -> tuple[str, int]:
    """Create and lock the file that tells other pid namespaces that this publisher lives."""
    while True:
        token = new_token()
        path = directory / str(SegmentName(os.geteuid(), process, token, "owner"))
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        # A sweep in another pid namespace may have locked and unlinked it between the two calls.
        if os.fstat(fd).st_nlink:
            return token, fd
        os.close(fd)


def _remove_all(
    process: ProcessIdentity, segments: list[OwnedSegment], lock_path: Path, lock_fd: int
) -> None:
    if this_process() != process:
        return
    for segment in segments:
        segment.remove()
    segments.clear()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(lock_path)
    os.close(lock_fd)
