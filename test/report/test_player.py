# SPDX-License-Identifier: Apache-2.0
"""The interactive block of a page: what it holds, and what it says where it cannot work."""

from __future__ import annotations

import base64
import gzip
import json
import re
import sys

import pytest

from wam.report import player
from wam.report.page import Page, Section, render
from wam.report.player import NO_PLOTLY, PlayerVideo, Scrubber, as_json, plotly_script
from wam.report.tone import Tone

DATA = {"end": 1000, "text": "</script><script>alert(1)</script>"}


def page(block: Scrubber) -> str:
    return render(Page("t", "s", Tone.PLAIN, "v", (), (), (Section("Scrubber", (block,)),)))


def test_videos_data_and_library_are_inside_the_page_and_nothing_is_fetched() -> None:
    text = page(
        Scrubber(
            (PlayerVideo("cam", b"an mp4", 320, 240), PlayerVideo("dark", b"", 0, 0, "why")), as_json(DATA)
        )
    )
    films = re.findall(r'class="player-film"[^>]*>(.*?)</script>', text)
    assert [base64.b64decode(film) for film in films] == [b"an mp4"]
    assert text.count("<video ") == 1
    assert "dark" in text
    assert "why" in text
    data = re.search(r'class="player-data">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    assert json.loads(data[1]) == DATA
    library = re.search(r'class="player-library">(.*?)</script>', text, re.DOTALL)
    assert library is not None
    assert b"plotly.js v" in gzip.decompress(base64.b64decode(library[1]))[:200]
    assert not re.search(r'(src|href)="(https?:)?//', text)


def test_the_view_says_in_one_line_that_it_needs_javascript_and_stays_hidden_without() -> None:
    text = page(Scrubber((), as_json(DATA)))
    assert len(re.findall(r"This view needs JavaScript", text)) == 1
    assert '<div class="player-body" hidden>' in text


def test_text_in_the_data_cannot_end_the_script() -> None:
    assert "<" not in as_json(DATA)
    assert json.loads(as_json(DATA)) == DATA


def test_numbers_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        as_json({"x": float("nan")})


def test_without_plotly_there_is_no_library_and_the_page_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    plotly_script.cache_clear()
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    try:
        assert player.plotly_script() == ""
    finally:
        plotly_script.cache_clear()
    text = page(Scrubber((), "{}", missing=NO_PLOTLY))
    assert NO_PLOTLY in text
    assert "player-library" not in text


def test_the_packed_library_leaves_most_of_the_page_to_the_videos() -> None:
    assert 1_000_000 < len(plotly_script()) < 2_200_000
