# SPDX-License-Identifier: Apache-2.0
"""Damaged sqlite3 files of a rosbag2: the rows of `messages` that lie on whole pages.

Rows are read in the order of their numbers. Where a page cannot be read, the next number that can be is searched; the
index of times, which lies on other pages, tells what was behind the last one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from wam.core.clock import NS_PER_S
from wam.data.bag.storage_file import NO_TIME_NS, Channel, LostPart, decoding, full_type, plain, within

FARTHEST = 1 << 40
"""Rows that are searched behind a damaged page."""


class SqliteFile:
    """A rosbag2 in sqlite3 of which some pages are damaged or missing.

    Args:
        path: the file.
        message_zstd: every message is compressed by itself.

    Raises:
        RecordingError: the tables themselves cannot be found.
    """

    def __init__(self, path: Path, *, message_zstd: bool = False) -> None:
        self.path = path
        self.seekable = False
        self._zstd = message_zstd
        self.lost: tuple[LostPart, ...] = ()
        self._scratch: Path | None = None
        try:
            with decoding(path):
                self._source = self._whole_pages()
                with self._open() as database:
                    self._scan(database)
        except BaseException:
            self.close()
            raise

    def messages(
        self, channels: Collection[Channel], *, span_ns: tuple[int, int] | None = None
    ) -> Iterator[tuple[Channel, int, bytes]]:
        """See `StorageFile.messages`; rows come in the order in which they were written."""
        by_id = {channel.key: channel for channel in channels}
        with decoding(self.path), self._open() as database:
            for row in self._rows(database, "data"):
                if isinstance(row, tuple) and row[1] in by_id and within(row[2], span_ns):
                    raw = plain(row[3], message_zstd=self._zstd)
                    yield by_id[row[1]], row[2], raw

    def close(self) -> None:
        """Remove the copy, where one was needed; no file stays open between two reads."""
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)

    def _whole_pages(self) -> Path:
        """Return the file, or a copy that ends with its last whole page: sqlite3 fills a cut one with zeros."""
        rest = self.path.stat().st_size % _page_bytes(self.path)
        if not rest:
            return self.path
        self._scratch = Path(tempfile.mkdtemp(prefix="wam-bag-"))
        copy = self._scratch / self.path.name
        shutil.copyfile(self.path, copy)
        os.truncate(copy, copy.stat().st_size - rest)
        return copy

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(
            sqlite3.connect(f"{self._source.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        ) as database:
            # Nothing is written: else a file that is shorter than it says would be refused as a whole.
            database.execute("PRAGMA writable_schema = ON")
            yield database

    def _scan(self, database: sqlite3.Connection) -> None:
        topics = database.execute("SELECT id, name, type, serialization_format FROM topics").fetchall()
        definitions = _definitions(database)
        counts: dict[int, int] = {}
        first, last = NO_TIME_NS, 0
        lost: list[LostPart] = []
        before: int | None = None
        gap = 0
        # The data is read too: its pages may be damaged where the row itself is whole.
        for row in self._rows(database, "data"):
            if isinstance(row, int):
                gap = row
                continue
            _, topic, time_ns, _ = row
            if gap:
                lost.append(self._part(gap, None if before is None else time_ns - before))
                gap = 0
            counts[topic] = counts.get(topic, 0) + 1
            first, last, before = min(first, time_ns), max(last, time_ns), time_ns
        if gap:
            lost.append(self._tail(database, last))
        self.lost = tuple(lost)
        self.start_ns, self.end_ns = first, last + 1 if counts else 0
        self.channels = tuple(
            Channel(
                topic=str(name),
                msgtype=full_type(str(msgtype)),
                encoding=str(encoding),
                count=counts.get(key, 0),
                definition=definitions.get(str(msgtype), ("", ""))[1],
                is_idl=definitions.get(str(msgtype), ("", ""))[0] == "ros2idl",
                key=key,
            )
            for key, name, msgtype, encoding in topics
        )

    def _part(self, messages: int | None, span_ns: int | None) -> LostPart:
        seconds = None if span_ns is None else max(0, span_ns) / NS_PER_S
        return LostPart(f"pages of {self.path.name} are damaged", messages=messages, seconds=seconds)

    def _tail(self, database: sqlite3.Connection, last_ns: int) -> LostPart:
        """Return what the index of times tells of the rows behind the last one that can be read."""
        query = "SELECT count(*), max(timestamp) FROM messages INDEXED BY timestamp_idx WHERE timestamp > ?"
        try:
            count, end_ns = database.execute(query, (last_ns,)).fetchone()
        except sqlite3.Error:
            return self._part(None, None)
        return self._part(count, end_ns - last_ns if count and last_ns else None)

    def _rows(self, database: sqlite3.Connection, data: str) -> Iterator[Any]:
        """Yield (id, topic, time [ns], data) of the rows that can be read, and how many were skipped before the next.

        A number at the end means that the last rows cannot be read; how many is not known.
        """
        query = f"SELECT id, topic_id, timestamp, {data} FROM messages WHERE id > ? ORDER BY id"
        after = 0
        while True:
            try:
                for row in database.execute(query, (after,)):
                    after = int(row[0])
                    yield row
            except sqlite3.Error:
                beyond = self._beyond(database, query, after)
                if beyond is None:
                    yield 1
                    return
                yield beyond - after
                after = beyond
            else:
                return

    def _beyond(self, database: sqlite3.Connection, query: str, after: int) -> int | None:
        """Return the number behind which a row can be read again, or None."""

        def readable(number: int) -> bool:
            try:
                return database.execute(query, (number,)).fetchone() is not None
            except sqlite3.Error:
                return False

        step = 1
        while not readable(after + step):
            step *= 2
            if step > FARTHEST:
                return None
        low, high = step // 2, step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if readable(after + middle) else (middle, high)
        return after + high


def is_cut_off(path: Path) -> bool:
    """Return whether an sqlite3 file is shorter than its header says, or ends within a page.

    Such a file may be opened and read by its index up to where it ends, with zeros for what is missing of a row.
    """
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100:
        return True
    (pages,) = struct.unpack_from(">I", header, 28)
    told = header[24:28] == header[92:96]  # else the last one to write did not know the field
    size, page = path.stat().st_size, _page_bytes(path)
    return bool(size % page) or (told and size < pages * page)


def _page_bytes(path: Path) -> int:
    with path.open("rb") as file:
        (page,) = struct.unpack(">H", file.read(18)[16:])
    return int(page) if page > 1 else 1 << 16


def _definitions(database: sqlite3.Connection) -> dict[str, tuple[str, str]]:
    """Return type -> kind and text of its definition; older files have none."""
    query = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
    try:
        return {
            str(name): (str(kind), str(text))
            for name, kind, text in database.execute(query)
            if str(kind) in ("ros2msg", "ros2idl")
        }
    except sqlite3.Error:
        return {}
