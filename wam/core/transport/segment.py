# SPDX-License-Identifier: Apache-2.0
"""One shared-memory segment: a header page, then the payload; a file lock says whether it is being read.

A reader holds a shared `flock` on the open file that its mapping came from. `mmap` duplicates that file
descriptor, so the kernel keeps the lock exactly as long as the mapping: past the release of the lease
while some array still looks at the memory, and no longer than the reader lives. The owner
writes only under an exclusive lock, hence never while a reader has it mapped (flock(2), mmap(2)).

    byte 0    magic, layout, sizes, owner, generation, version, owner key, CRC-32   (written once a publication)
    byte 192  state word: WRITING, READY or RETIRED                                 (changes while readers have it
    mapped) byte 4096 payload
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import re
import stat
import struct
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

from wam.core.errors import ContextError, ContextRecycled, ContextReleased, HandleRefused
from wam.core.transport.identity import ProcessIdentity

SHM_DIRECTORY = Path("/dev/shm")
"""Where Linux keeps POSIX shared memory."""

PAYLOAD_OFFSET = 4096
"""First byte of the payload: one page, so that the payload keeps the alignment of the mapping."""

WRITING, READY, RETIRED = 0x57524954, 0x52454144, 0x44454144
"""The state words; every other value counts as not ready."""

_MAGIC = b"WAMCTX\r\n"
_LAYOUT = 1
_STATE_OFFSET = 192
_CRC_OFFSET = 136
_HEADER = struct.Struct("=8sIIIIQQQQQII64s")
_OWNER_KEY_BYTES = 64
assert _HEADER.size == _CRC_OFFSET

_NAME = re.compile(
    r"wam_ctx\.(?P<uid>\d{1,10})\.(?P<pid>\d{1,10})\.(?P<start>\d{1,20})\.(?P<token>[0-9a-f]{16})"
    r"\.(?P<slot>\d{1,4}|owner)",
    re.ASCII,
)

_LOCK_TRIES = 50
_LOCK_PAUSE_S = 0.0002


@dataclass(frozen=True, slots=True)
class SegmentName:
    """Name of a segment, and what it says.

    Attributes:
        uid: user that owns it.
        owner: process that made it.
        token: 16 hex digits of the publisher.
        slot: number of the segment within its publisher, or "owner" for the publisher's lock file.
    """

    uid: int
    owner: ProcessIdentity
    token: str
    slot: str

    def __str__(self) -> str:
        return f"wam_ctx.{self.uid}.{self.owner.pid}.{self.owner.start_ticks}.{self.token}.{self.slot}"

    @classmethod
    def parse(cls, text: str) -> SegmentName | None:
        """Return the name, or None where `text` is no name of a segment (a path never is)."""
        match = _NAME.fullmatch(text)
        if match is None:
            return None
        owner = ProcessIdentity(int(match["pid"]), int(match["start"]))
        return cls(int(match["uid"]), owner, match["token"], match["slot"])


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What the header page says about the publication in the segment.

    Attributes:
        name: name the owner gave to the segment.
        owner_key: node name of the owner, cut to 64 bytes of UTF-8.
        generation: reset counter of the planner.
        version: publications within the generation.
        payload_bytes: size of the payload [bytes].
        table_crc: CRC-32 of the tensor table.
    """

    name: SegmentName
    owner_key: str
    generation: int
    version: int
    payload_bytes: int
    table_crc: int

    def pack(self) -> bytes:
        """Return the header's bytes with their checksum."""
        body = _HEADER.pack(
            _MAGIC,
            _LAYOUT,
            PAYLOAD_OFFSET,
            self.name.uid,
            self.name.owner.pid,
            self.name.owner.start_ticks,
            int(self.name.token, 16),
            self.generation,
            self.version,
            self.payload_bytes,
            int(self.name.slot),
            self.table_crc,
            self.owner_key.encode()[:_OWNER_KEY_BYTES],
        )
        return body + struct.pack("=I", zlib.crc32(body))

    @classmethod
    def unpack(cls, data: bytes) -> SegmentHeader | None:
        """Return the header in the first bytes of a segment, or None where they are none."""
        body = data[:_CRC_OFFSET]
        (crc,) = struct.unpack_from("=I", data, _CRC_OFFSET)
        fields = _HEADER.unpack(body)
        magic, layout, offset, uid, pid, start, token, generation, version, size, slot, table, key = fields
        if (magic, layout, offset, crc) != (_MAGIC, _LAYOUT, PAYLOAD_OFFSET, zlib.crc32(body)):
            return None
        name = SegmentName(uid, ProcessIdentity(pid, start), f"{token:016x}", str(slot))
        owner_key = key.rstrip(b"\0").decode(errors="replace")
        return cls(name, owner_key, generation, version, size, table)


class OwnedSegment:
    """The owner's end of a segment: created empty, written only while no reader has it mapped.

    Args:
        directory: where segments live.
        name: name to create; it must not exist.
        payload_bytes: size of the payload [bytes]; it is reserved at once, so that a full /dev/shm is
            an error here and not a SIGBUS in the middle of a write.

    Raises:
        ContextError: there is no space for it.
    """

    def __init__(self, directory: Path, name: SegmentName, payload_bytes: int) -> None:
        self.name = name
        self.capacity = payload_bytes
        self._path = directory / str(name)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o600)
        try:
            os.fchmod(self._fd, 0o600)
            os.posix_fallocate(self._fd, 0, PAYLOAD_OFFSET + payload_bytes)
            self._map = mmap.mmap(self._fd, PAYLOAD_OFFSET + payload_bytes)
        except OSError as error:
            os.unlink(self._path)
            os.close(self._fd)
            if error.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT):
                raise
            raise ContextError(
                f"planner context: no space for a segment in {directory}",
                value=f"{PAYLOAD_OFFSET + payload_bytes} bytes",
                allowed="the free space there (see `df -h`)",
                where="the size of /dev/shm (docker: --shm-size)",
            ) from error
        self._state = memoryview(self._map)[_STATE_OFFSET : _STATE_OFFSET + 4].cast("I")
        self._state[0] = WRITING

    def try_claim(self) -> bool:
        """Take the segment for writing; False while any mapping of a reader exists."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def is_read(self) -> bool:
        """Return whether a reader has the segment mapped."""
        if not self.try_claim():
            return True
        self.unclaim()
        return False

    def unclaim(self) -> None:
        """Release the write lock."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def begin(self, header: SegmentHeader) -> memoryview:
        """Write the header of a claimed segment and return the room for its payload."""
        self._state[0] = WRITING
        packed = header.pack()
        self._map[: len(packed)] = packed
        return memoryview(self._map)[PAYLOAD_OFFSET : PAYLOAD_OFFSET + header.payload_bytes]

    def finish(self) -> None:
        """Make the payload readable."""
        self._state[0] = READY
        self.unclaim()

    def retire(self) -> None:
        """Notify every reader, including those with a lease, that the publication is no longer valid."""
        self._state[0] = RETIRED

    def remove(self) -> None:
        """Retire, unlink and unmap. Mappings of readers stay, and show what they showed."""
        self.retire()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        self._state.release()
        with contextlib.suppress(BufferError):  # a codec kept a view of the payload: it goes with that view
            self._map.close()
        os.close(self._fd)


class MappedSegment:
    """A reader's end of a segment: mapped read-only, locked for as long as the mapping lives."""

    def __init__(self, mapping: mmap.mmap, header: SegmentHeader) -> None:
        self.header = header
        self._state = memoryview(mapping)[_STATE_OFFSET : _STATE_OFFSET + 4].cast("I")
        self.payload = memoryview(mapping)[PAYLOAD_OFFSET : PAYLOAD_OFFSET + header.payload_bytes]
        """The payload's bytes; every view taken from it keeps the mapping, and so the lock."""

    @property
    def ready(self) -> bool:
        """Whether the owner still considers the publication valid."""
        return self._state[0] == READY


def map_segment(
    directory: Path, name: SegmentName, *, payload_bytes: int, generation: int, version: int, table_crc: int
) -> MappedSegment:
    """Check the file that `name` stands for, lock it and map it read-only.

    Raises:
        HandleRefused: the file is not a segment of this user, is too short, or holds another table.
        ContextReleased: it does not exist any more, or its owner retired it.
        ContextRecycled: it holds, or is about to hold, another publication.
    """
    # O_NONBLOCK: opening a FIFO planted under the name would wait for a writer.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(directory / str(name), flags)
    except FileNotFoundError:
        raise ContextReleased(f"planner context {name}: its planner removed it") from None
    except OSError as error:
        raise HandleRefused(f"context handle: {name} cannot be opened: {error.strerror}") from error
    try:
        _check_file(fd, name, payload_bytes)
        _lock_shared(fd, name, generation, version)
        # Nothing is written under the shared lock, so what is checked here is what gets mapped.
        header, state = _read_page(fd)
        if header is None or header.name != name:
            raise HandleRefused(f"context handle: {name} does not hold a planner context of that name")
        if (header.generation, header.version) != (generation, version):
            raise ContextRecycled(
                f"planner context (generation {generation}, version {version}): {name} holds "
                f"({header.generation}, {header.version}) now"
            )
        if state != READY:
            raise ContextReleased(f"planner context {name}: its planner retired it")
        if (header.payload_bytes, header.table_crc) != (payload_bytes, table_crc):
            raise HandleRefused(f"context handle: the tensor table is not the one written to {name}")
        # mmap duplicates fd: from here the lock lives and dies with the mapping.
        mapping = mmap.mmap(fd, PAYLOAD_OFFSET + payload_bytes, mmap.MAP_SHARED, mmap.PROT_READ)
    finally:
        os.close(fd)
    return MappedSegment(mapping, header)


def retire_file(path: Path) -> None:
    """Mark the segment at `path`, whose owner is dead, as retired and unlink it; readers notice.

    A file under the name that is no segment of this user is unlinked where the user may, and not written.
    """
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            info = os.fstat(fd)
            if stat.S_ISREG(info.st_mode) and info.st_uid == os.geteuid() and _read_page(fd)[0] is not None:
                os.pwrite(fd, struct.pack("=I", RETIRED), _STATE_OFFSET)
        finally:
            os.close(fd)
    with contextlib.suppress(FileNotFoundError, PermissionError):
        os.unlink(path)


def _read_page(fd: int) -> tuple[SegmentHeader | None, int]:
    """Return header and state word of the segment open as `fd`."""
    page = os.pread(fd, _STATE_OFFSET + 4, 0)
    if len(page) < _STATE_OFFSET + 4:
        return None, 0
    (state,) = struct.unpack_from("=I", page, _STATE_OFFSET)
    return SegmentHeader.unpack(page), state


def _check_file(fd: int, name: SegmentName, payload_bytes: int) -> None:
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        raise HandleRefused(f"context handle: {name} is not a regular file")
    if info.st_uid != os.geteuid():
        raise HandleRefused(
            f"context handle: {name} has another owner", value=info.st_uid, allowed=f"uid {os.geteuid()}"
        )
    if stat.S_IMODE(info.st_mode) != 0o600:
        raise HandleRefused(
            f"context handle: mode of {name}", value=oct(stat.S_IMODE(info.st_mode)), allowed="0o600"
        )
    if info.st_size < PAYLOAD_OFFSET + payload_bytes:
        raise HandleRefused(
            f"context handle: {name} is too short",
            value=info.st_size,
            allowed=f"at least {PAYLOAD_OFFSET + payload_bytes} bytes",
        )


def _lock_shared(fd: int, name: SegmentName, generation: int, version: int) -> None:
    """Take the shared lock. Never waits for a write; only for the owner's short check for readers."""
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            header, state = _read_page(fd)
            if state != READY or header is None:
                break
            if (header.generation, header.version) != (generation, version):
                break
            time.sleep(_LOCK_PAUSE_S)
        else:
            return
    raise ContextRecycled(
        f"planner context (generation {generation}, version {version}): {name} is being rewritten"
    )
