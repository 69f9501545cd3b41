# SPDX-License-Identifier: Apache-2.0
"""The top of a report: questions with their answers, and the moments that they rest on, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from wam.report.tone import Tone


@dataclass(frozen=True, slots=True)
class Point:
    """One reason: a mark that needs no colour, and the sentence."""

    mark: str
    text: str
    tone: Tone


@dataclass(frozen=True, slots=True)
class Card:
    """A question with its answer.

    Attributes:
        question: the question.
        answer: a word or two.
        tone: its colour.
        points: why.
        more: further points, folded.
        more_title: what is folded.
        note: what the answer does not cover.
    """

    question: str
    answer: str
    tone: Tone
    points: tuple[Point, ...]
    more: tuple[Point, ...] = ()
    more_title: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment worth looking at.

    Attributes:
        anchor: what follows `#` in a link to it, e.g. "t=2.76"; "" where another mark has it.
        seconds: since the start [s].
        text: what happened.
        amount: how much, with unit; "" for none.
    """

    anchor: str
    seconds: float
    text: str
    amount: str


@dataclass(frozen=True, slots=True)
class Cards:
    """Questions side by side, and their moments below."""

    cards: tuple[Card, ...]
    marks: tuple[Mark, ...] = ()
    marks_title: str = "Worst moments"
