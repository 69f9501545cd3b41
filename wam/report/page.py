# SPDX-License-Identifier: Apache-2.0
"""One self-contained HTML page from plain values: verdict on top, tiles, sections; nothing is fetched."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from wam.core.errors import ImageError
from wam.core.observation import Rgb
from wam.report.cards import Cards
from wam.report.player import Scrubber
from wam.report.tone import Tone


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure that matters, large."""

    label: str
    value: str
    note: str = ""
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Link:
    """A cell that leads to a file beside the page."""

    text: str
    path: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first column is text, the others are aligned as numbers unless `text` is set.

    Attributes:
        columns: headings; none for a list of names and values.
        rows: cells.
        caption: line above it.
        text: every column is text.
        last_is_detail: the last column is left out on a narrow screen.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str | Link, ...], ...]
    caption: str = ""
    text: bool = False
    last_is_detail: bool = False
    kind: str = "table"


@dataclass(frozen=True, slots=True)
class Chart:
    """One drawing.

    Attributes:
        title: name above it.
        svg: the drawing, from `wam.report.plots`.
        note: a line under it.
    """

    title: str
    svg: str
    note: str = ""

    @property
    def markup(self) -> Markup:
        """The drawing as trusted markup; it comes from our own plotting code alone."""
        return Markup(self.svg)


@dataclass(frozen=True, slots=True)
class Charts:
    """Drawings side by side as width allows; `wide` uses the full width for each."""

    charts: tuple[Chart, ...]
    legend: tuple[tuple[str, str], ...] = ()
    wide: bool = False
    kind: str = "charts"


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a strip: data URI, what it shows, when."""

    source: str
    caption: str


@dataclass(frozen=True, slots=True)
class Strip:
    """Images side by side; `wide` makes each one twice as large."""

    pictures: tuple[Picture, ...]
    caption: str = ""
    wide: bool = False
    kind: str = "strip"


@dataclass(frozen=True, slots=True)
class Video:
    """One video: data URI and what it shows."""

    source: str
    caption: str


@dataclass(frozen=True, slots=True)
class Videos:
    """Videos side by side as width allows."""

    videos: tuple[Video, ...]
    kind: str = "videos"


@dataclass(frozen=True, slots=True)
class Text:
    """Paragraphs, or a list of points."""

    lines: tuple[str, ...]
    points: bool = False
    kind: str = "text"


@dataclass(frozen=True, slots=True)
class Embedded:
    """HTML that a section draws for itself, with its own style and script; its author escapes all text."""

    html: str
    kind: str = "embedded"

    @property
    def markup(self) -> Markup:
        """The HTML as trusted markup."""
        return Markup(self.html)


Block = Table | Charts | Strip | Videos | Text | Embedded | Scrubber


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with blocks below it; `folded` hides them behind the heading until it is opened."""

    title: str
    blocks: tuple[Block, ...]
    intro: str = ""
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A report.

    Attributes:
        title: what was done, e.g. "Replay of g1_ep1".
        subtitle: with what.
        tone: colour of the verdict.
        verdict: one sentence.
        reasons: one line each, why.
        tiles: the figures that matter.
        sections: the rest.
        footer: one line at the end.
        answers: what the report answers before anything else; None for a report without such questions.
    """

    title: str
    subtitle: str
    tone: Tone
    verdict: str
    reasons: tuple[str, ...]
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]
    footer: str = ""
    answers: Cards | None = None


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(page: Page) -> str:
    """Return the page as HTML; all text is escaped, styles and images are inside."""
    return _ENVIRONMENT.get_template("page.html.j2").render(page=page)


def picture(rgb: Rgb, *, caption: str, width: int = 240) -> Picture:
    """Return an image of `width` pixels (or less) from uint8 [H, W, 3], red first.

    Raises:
        ImageError: the image could not be encoded.
    """
    height = max(1, round(rgb.shape[0] * width / rgb.shape[1]))
    small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA) if rgb.shape[1] > width else rgb
    done, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    if not done:
        raise ImageError("image for the report could not be encoded", value=str(rgb.shape))
    return Picture("data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii"), caption)


def video(mp4: bytes, *, caption: str) -> Video:
    """Return a video of an MP4 file's content."""
    return Video("data:video/mp4;base64," + base64.b64encode(mp4).decode("ascii"), caption)


def number(value: float, digits: int = 3) -> str:
    """Return `value` with `digits` significant digits, or a dash for NaN."""
    if not np.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    magnitude = int(np.floor(np.log10(abs(value))))
    if magnitude < -4 or magnitude > 6:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - magnitude)}f}"


def evenly(count: int, limit: int) -> Sequence[int]:
    """Return at most `limit` indices spread over `range(count)`, first and last included."""
    if count <= limit:
        return range(count)
    return [int(i) for i in np.unique(np.linspace(0, count - 1, limit).round().astype(np.intp))]
