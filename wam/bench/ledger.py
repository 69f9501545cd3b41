# SPDX-License-Identifier: Apache-2.0
"""What a long campaign has finished, in a file that a later run takes up again.

One JSON object per line, appended as each part is finished: the campaign that it belongs to, which part it is, and what
was found. A run that is killed loses the parts that were under way, and its last line if that was torn.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wam.core.errors import ConfigError


class Ledger:
    """The finished parts of one campaign; see `open_ledger`.

    Attributes:
        done: name of a part -> what was found in it.
    """

    def __init__(self, path: Path | None, campaign: Mapping[str, str | int]) -> None:
        self.done: dict[str, dict[str, Any]] = {}
        self._campaign = dict(campaign)
        self._file = None if path is None else path.open("a+", encoding="utf-8")

    def add(self, part: str, found: Mapping[str, Any]) -> None:
        """Note that `part` is finished, with what was found in it: numbers, texts and lists of them."""
        self.done[part] = dict(found)
        if self._file is not None:
            line = {"campaign": self._campaign, "part": part, "found": found}
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def _read(self, path: Path) -> None:
        assert self._file is not None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                "another run writes to this file", value=path, allowed="one run at a time", where="--resume"
            ) from None
        self._file.seek(0)
        whole = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith("\n"):
                break
            self._take(line, f"{path}, line {number}")
            whole += len(line.encode())
        self._file.truncate(whole)

    def _take(self, line: str, where: str) -> None:
        try:
            read = json.loads(line)
            campaign, part, found = read["campaign"], read["part"], read["found"]
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                "not a line of a campaign",
                value=line[:60].rstrip(),
                allowed="a file that was written with --resume",
                where=where,
            ) from None
        if campaign != self._campaign:
            other = [key for key in self._campaign if campaign.get(key) != self._campaign[key]]
            raise ConfigError(
                f"finished part of another campaign ({', '.join(other)})",
                value=", ".join(f"{key} {campaign.get(key)}" for key in other),
                allowed=", ".join(f"{key} {self._campaign[key]}" for key in other)
                + "; name another file to begin anew",
                where=where,
            )
        self.done[part] = found

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()


@contextmanager
def open_ledger(path: str | Path | None, campaign: Mapping[str, str | int]) -> Iterator[Ledger]:
    """Give the ledger in the file at `path`, made where there is none; None keeps it in memory.

    Args:
        path: of the file.
        campaign: what has to be the same for a finished part to count, e.g. robot, seed and `fingerprint`.

    Raises:
        ConfigError: a line belongs to another campaign or cannot be read, or another run has the file.
    """
    place = None if path is None else Path(path)
    try:
        ledger = Ledger(place, campaign)
    except OSError as error:
        raise ConfigError(
            f"cannot write ({error.strerror})",
            value=path,
            allowed="a file in a folder that exists",
            where="--resume",
        ) from error
    try:
        if place is not None:
            ledger._read(place)
        yield ledger
    finally:
        ledger._close()


def fingerprint(places: Iterable[Path]) -> str:
    """Return a hash of files, and of the Python files below folders: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for place in places:
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(f"{file.name} {file.stat().st_size}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
