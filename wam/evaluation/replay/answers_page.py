# SPDX-License-Identifier: Apache-2.0
"""The two answers on top of a replay's page."""

from __future__ import annotations

from collections.abc import Sequence

from wam.evaluation.replay.answers import Answers, AnswerWord, Reason, ReplayAnswer
from wam.evaluation.replay.moments import WorstMoment
from wam.report.cards import Card, Cards, Mark, Point
from wam.report.page import number
from wam.report.tone import Tone

TONES = {AnswerWord.YES: Tone.GOOD, AnswerWord.NO: Tone.BAD, AnswerWord.UNKNOWN: Tone.PLAIN}
MARKS = {AnswerWord.YES: "✓", AnswerWord.NO: "✗", AnswerWord.UNKNOWN: "?"}
"""A mark that is read without colour."""


def answer_cards(answers: Answers) -> Cards:
    """Return both answers with their worst moments, in order of time."""
    moments = sorted(
        (moment for answer in answers.both for moment in answer.moments), key=lambda moment: moment.seconds
    )
    return Cards(tuple(_card(answer) for answer in answers.both), _marks(moments))


def amount(moment: WorstMoment) -> str:
    """Return how much, with its unit; "" where there is no number."""
    told = number(moment.value)
    if told == "–":
        return ""
    return f"{told} {moment.unit}" if moment.unit not in ("", "1") else told


def _card(answer: ReplayAnswer) -> Card:
    met = answer.met
    return Card(
        question=answer.question.value,
        answer=answer.reply.value.capitalize(),
        tone=TONES[answer.reply],
        points=_points(answer.deciding),
        more=_points(met),
        more_title=f"{len(met)} other {'check is' if len(met) == 1 else 'checks are'} met",
        note=answer.bounds,
    )


def _points(reasons: Sequence[Reason]) -> tuple[Point, ...]:
    return tuple(Point(MARKS[one.reply], one.text, TONES[one.reply]) for one in reasons)


def _marks(moments: Sequence[WorstMoment]) -> tuple[Mark, ...]:
    marks: list[Mark] = []
    for moment in moments:
        anchor = f"t={moment.seconds:.2f}"
        taken = any(mark.anchor == anchor for mark in marks)
        marks.append(Mark("" if taken else anchor, moment.seconds, moment.text, amount(moment)))
    return tuple(marks)
