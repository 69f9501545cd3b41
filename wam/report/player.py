# SPDX-License-Identifier: Apache-2.0
"""The interactive part of a page: videos, lines, predictions and events under one time cursor. See player.js."""

from __future__ import annotations

import base64
import functools
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from wam.core.extras import BARE, command_for

NO_PLOTLY = (
    "The interactive view needs plotly, which was not installed when this page was made: "
    f"{command_for(BARE)}."
)


@dataclass(frozen=True, slots=True)
class PlayerVideo:
    """A video of the view.

    Attributes:
        caption: what it shows.
        mp4: an MP4 file whose time is that of the cursor; empty for none.
        width: columns [px].
        height: rows [px].
        note: a line under it.
    """

    caption: str
    mp4: bytes
    width: int
    height: int
    note: str = ""

    @property
    def base64(self) -> str:
        """The file as text."""
        return base64.b64encode(self.mp4).decode("ascii")


@dataclass(frozen=True, slots=True)
class Scrubber:
    """Videos, lines, a fan of predictions and events, all at one time.

    Attributes:
        videos: side by side.
        data: what player.js draws, as JSON (see `as_json`).
        missing: why the view cannot be shown; "" where it can.
    """

    videos: tuple[PlayerVideo, ...]
    data: str
    missing: str = ""
    kind: str = "player"

    @property
    def json(self) -> Markup:
        """The data as trusted markup; `as_json` leaves no tag in it."""
        return Markup(self.data)

    @property
    def script(self) -> Markup:
        """Our own script as trusted markup."""
        return Markup(Path(__file__).with_name("player.js").read_text(encoding="utf-8"))

    @property
    def library(self) -> Markup:
        """plotly.js, gzip, in base64."""
        return Markup(plotly_script())


def as_json(value: Mapping[str, Any]) -> str:
    """Return `value` as JSON that can stand in a script element.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


@functools.cache
def plotly_script() -> str:
    """Return plotly.js as gzip in base64, "" where plotly is not installed.

    The script has 4.8 MB, so packed 2 MB; every browser since 2023 unpacks it (DecompressionStream). The usual level of
    gzip takes twice the time for 4 % less.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError:
        return ""
    packed = gzip.compress(get_plotlyjs().encode("utf-8"), compresslevel=4, mtime=0)
    return base64.b64encode(packed).decode("ascii")
