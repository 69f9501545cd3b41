# SPDX-License-Identifier: Apache-2.0
"""The camera pictures that a report's page holds: the only copy of them once the recording is elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

_SECONDS = re.compile(r"(\d+(?:\.\d+)?) s(?: · L1 \S+)?\Z")
_CAMERA = re.compile(r"(.+), (?:over the recording|images with the largest errors)\Z")
_DATA = "data:image/"


@dataclass(frozen=True, slots=True)
class PagePicture:
    """One picture of a page.

    Attributes:
        camera: name of the camera.
        seconds: time since the start of the recording, without gaps [s].
        source: data URI.
    """

    camera: str
    seconds: float
    source: str


def pictures_of(page: Path) -> tuple[PagePicture, ...]:
    """Return the camera pictures of a replay's page in order of time; none where it has none, or is missing."""
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ()
    reader = _PictureFinder()
    reader.feed(text)
    reader.close()
    return tuple(sorted(reader.found, key=lambda picture: picture.seconds))


class _PictureFinder(HTMLParser):
    """Takes images whose text is a time, below a line that names their camera."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[PagePicture] = []
        self._camera = ""
        self._in_note = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self._in_note = tag == "p" and told.get("class") == "note"
        if tag in ("h2", "summary"):
            self._camera = ""
        if tag != "img" or not self._camera:
            return
        time, source = _SECONDS.match(told.get("alt") or ""), told.get("src") or ""
        if time is not None and source.startswith(_DATA):
            self.found.append(PagePicture(self._camera, float(time.group(1)), source))

    def handle_data(self, data: str) -> None:
        if not self._in_note:
            return
        named = _CAMERA.match(data.strip())
        if named is not None:
            self._camera = named.group(1)

    def handle_endtag(self, tag: str) -> None:
        self._in_note = False
