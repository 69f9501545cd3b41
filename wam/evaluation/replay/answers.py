# SPDX-License-Identifier: Apache-2.0
"""The two answers of a report: would it have been safe, and would it have done what the person did? Pure.

metrics -> default gate, criterion by criterion -> a sentence each -> yes, no or cannot be told. Page, terminal and JSON
show these sentences and no others.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from wam.evaluation.metrics.default_gate import CriterionCheck, Question, judge
from wam.evaluation.metrics.gate import GateCheck
from wam.evaluation.replay.moments import WorstMoment
from wam.evaluation.replay.sentences import Evidence, sentence
from wam.report.numbers import plain_number


class AnswerWord(enum.Enum):
    """An answer in a word."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "cannot be told"


ORDER = (AnswerWord.NO, AnswerWord.UNKNOWN, AnswerWord.YES)
"""Gravest first."""

BOUNDS = {
    Question.SAFE: "The safety filters know the robot's own model and what was recorded. They do not know people and "
    "objects that are not in that model, nor whether the arm would have followed.",
    Question.LIKE: "Compared along the path of this one recording. What the policy would have seen, and done, once it "
    "had left that path, no recording tells.",
}
"""What each answer does not cover."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why, in one sentence.

    Attributes:
        reply: the answer that it speaks for.
        text: the sentence.
        metric: the metric that it tells.
    """

    reply: AnswerWord
    text: str
    metric: str


@dataclass(frozen=True, slots=True)
class ReplayAnswer:
    """One of the two questions, answered.

    Attributes:
        question: the question.
        reply: the answer in a word.
        reasons: what speaks for no first, then what cannot be told, then what speaks for yes.
        bounds: what the answer does not cover.
        moments: the worst moments, in order of time.
    """

    question: Question
    reply: AnswerWord
    reasons: tuple[Reason, ...]
    bounds: str
    moments: tuple[WorstMoment, ...] = ()

    @property
    def headline(self) -> str:
        """Question and answer."""
        return f"{self.question.value} {self.reply.value.capitalize()}"

    @property
    def deciding(self) -> tuple[Reason, ...]:
        """The reasons that do not speak for yes; all of them where the answer is yes."""
        if self.reply is AnswerWord.YES:
            return self.reasons
        return tuple(reason for reason in self.reasons if reason.reply is not AnswerWord.YES)

    @property
    def met(self) -> tuple[Reason, ...]:
        """The other reasons."""
        deciding = self.deciding
        return tuple(reason for reason in self.reasons if reason not in deciding)


@dataclass(frozen=True, slots=True)
class Answers:
    """Both questions, answered by the default gate.

    Attributes:
        safe: would this have been safe?
        like: would it have done what the person did?
        checks: every threshold of the default gate with what was measured.
    """

    safe: ReplayAnswer
    like: ReplayAnswer
    checks: tuple[GateCheck, ...]

    @property
    def both(self) -> tuple[ReplayAnswer, ReplayAnswer]:
        """Both, in the order of a report."""
        return self.safe, self.like

    @property
    def reply(self) -> AnswerWord:
        """No where either is no, yes where both are."""
        return min((answer.reply for answer in self.both), key=ORDER.index)


def answer_questions(
    metrics: Mapping[str, float | None],
    evidence: Evidence,
    moments: Mapping[Question, Sequence[WorstMoment]],
) -> Answers:
    """Answer both questions by the default gate.

    Args:
        metrics: name -> value of every metric; None where the recording does not give it.
        evidence: what the sentences tell besides.
        moments: question -> the worst moments.
    """
    judged = judge(metrics)
    safe, like = (
        _answer(
            question,
            tuple(one for one in judged if one.criterion.question is question),
            metrics,
            evidence,
            tuple(moments[question]),
        )
        for question in (Question.SAFE, Question.LIKE)
    )
    return Answers(safe, like, tuple(one.check for one in judged))


def answers_as_json(answers: Answers) -> dict[str, Any]:
    """Return the section `answers` of a summary.json."""
    return {
        name: {
            "question": answer.question.value,
            "answer": answer.reply.value,
            "reasons": [
                {"answer": reason.reply.value, "text": reason.text, "metric": reason.metric}
                for reason in answer.reasons
            ],
            "bounds": answer.bounds,
            "moments": [
                {**asdict(moment), "kind": moment.kind.value, "value": plain_number(moment.value)}
                for moment in answer.moments
            ],
        }
        for name, answer in (("safe", answers.safe), ("like", answers.like))
    }


def _answer(
    question: Question,
    judged: tuple[CriterionCheck, ...],
    metrics: Mapping[str, float | None],
    evidence: Evidence,
    moments: tuple[WorstMoment, ...],
) -> ReplayAnswer:
    missing = [one for one in judged if one.criterion.is_condition and one.check.passed is None]
    if missing:
        # What has no ground to stand on is not judged, and every such line would say the same.
        judged = (missing[0], *(one for one in judged if one.criterion.is_condition and one not in missing))
    # What was found comes before the ground that it stands on.
    reasons = [
        Reason(_reply(one.check), sentence(one.check, metrics, evidence), one.criterion.metric)
        for one in sorted(judged, key=lambda one: one.criterion.is_condition)
    ]
    reasons.sort(key=lambda reason: ORDER.index(reason.reply))
    reply = min((reason.reply for reason in reasons), key=ORDER.index)
    return ReplayAnswer(question, reply, tuple(reasons), BOUNDS[question], moments)


def _reply(check: GateCheck) -> AnswerWord:
    return AnswerWord.UNKNOWN if check.passed is None else AnswerWord.YES if check.passed else AnswerWord.NO
