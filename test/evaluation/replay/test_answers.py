# SPDX-License-Identifier: Apache-2.0
"""The two answers of a report: yes only where everything could be measured, no where anything is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from wam.evaluation.metrics.default_gate import DEFAULT_GATE, Question
from wam.evaluation.metrics.gate import GateSource, gate_option
from wam.evaluation.metrics.table import gate_names
from wam.evaluation.replay.answers import Answers, AnswerWord, answer_questions, answers_as_json
from wam.evaluation.replay.moments import MomentKind, WorstMoment
from wam.evaluation.replay.sentences import Evidence, contexts_and_judged

GOOD: dict[str, float | None] = {
    "policy_faults": 0.0,
    "safety_stops": 0.0,
    "safety_collisions": 0.0,
    "safety_refused_rate": 0.0,
    "safety_refused": 0.0,
    "safety_ok": 90.0,
    "safety_changed": 10.0,
    "safety_hold_share": 0.001,
    "limit_excess_max": 0.0,
    "rows_beyond_limits": 0.0,
    "scored_chunks": 100.0,
    "moved": 0.5,
    "reference_share": 1.0,
    "joints_compared": 7.0,
    "coverage": 1.0,
    "skill": 0.8,
    "repeat_skill": 0.6,
}
EVIDENCE = Evidence(judged=10.0, rows=1600, furthest="j3", joints=7)


def answer(evidence: Evidence = EVIDENCE, **changes: float | None) -> Answers:
    return answer_questions({**GOOD, **changes}, evidence, {Question.SAFE: (), Question.LIKE: ()})


def test_a_good_run_is_yes_twice_with_every_check_as_a_reason() -> None:
    answers = answer()
    assert [one.reply for one in answers.both] == [AnswerWord.YES, AnswerWord.YES]
    assert answers.reply is AnswerWord.YES
    assert sum(len(one.reasons) for one in answers.both) == len(DEFAULT_GATE)
    assert all(check.passed for check in answers.checks)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"policy_faults": 1.0}, "executor at 1.20 s: not finite"),
        ({"safety_stops": 2.0}, "2 times (a collision (2 times))"),
        ({"safety_collisions": 1.0}, "1 chunk would have led into a collision"),
        (
            {"safety_refused_rate": 0.36, "safety_refused": 36.0, "safety_ok": 54.0},
            "36 of 100 chunks would have been refused, 36 % (allowed: 5 %): beginning too far from where the arm is",
        ),
        ({"safety_hold_share": 0.41}, "held for 41 % of the time, 4.1 of 10.0 s (allowed: 5 %)"),
        (
            {"limit_excess_max": 0.25, "rows_beyond_limits": 1085.0},
            "1085 of 1600 rows go beyond a position limit, j3 furthest, by 25 % of its range (allowed: 10 %",
        ),
    ],
)
def test_whatever_is_not_safe_is_told_in_plain_words_with_value_and_limit(
    changes: dict[str, float | None], words: str
) -> None:
    """The headline said "Not judged" while 41 % of the time was held and 42 % of the chunks were refused."""
    evidence = Evidence(
        faults=("executor at 1.20 s: not finite",) if "policy_faults" in changes else (),
        refused={"jump": 36},
        stops={"collision": 2},
        judged=10.0,
        rows=1600,
        furthest="j3",
        joints=7,
    )
    answers = answer(evidence, **changes)
    assert answers.safe.reply is AnswerWord.NO
    assert answers.like.reply is AnswerWord.YES
    assert answers.reply is AnswerWord.NO
    assert words in answers.safe.reasons[0].text
    assert answers.safe.deciding == answers.safe.reasons[:1]


def test_causes_that_were_told_when_they_began_are_named_without_counts() -> None:
    """A live replay refused 71 of 71 chunks: "beginning too far from where the arm is (once), too fast (once)"."""
    answers = answer(
        Evidence(refused={"jump": 1, "velocity_limit": 1}, joints=7),
        safety_refused_rate=0.36,
        safety_refused=36.0,
        safety_ok=54.0,
    )
    assert answers.safe.reasons[0].text.endswith(
        "(allowed: 5 %): beginning too far from where the arm is, too fast for a joint"
    )


def test_collisions_that_were_not_checked_are_neither_yes_nor_no() -> None:
    evidence = Evidence(unchecked="g1 has no model", joints=7)
    answers = answer(evidence, safety_collisions=None)
    assert answers.safe.reply is AnswerWord.UNKNOWN
    assert answers.safe.deciding[0].text == "Collisions cannot be told: g1 has no model"
    assert [check.passed for check in answers.checks if check.threshold.metric == "safety_collisions"] == [
        None
    ]
    worse = answer(evidence, safety_collisions=None, safety_stops=1.0)
    assert worse.safe.reply is AnswerWord.NO


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"moved": 0.004, "skill": None, "repeat_skill": None},
            "no joint moved by more than 0.4 % of its range",
        ),
        ({"moved": 9e-21, "skill": None, "repeat_skill": None}, "at rest in this recording: no joint moved"),
        (
            {"reference_share": 1 / 7, "joints_compared": 1.0},
            "1 of 7 joints and 14 % of all numbers compared",
        ),
        ({"scored_chunks": 3.0}, "3 chunks compared with the recorded action, fewer than 10"),
        (
            {
                "scored_chunks": 0.0,
                "moved": None,
                "reference_share": None,
                "skill": None,
                "repeat_skill": None,
            },
            "Nothing was recorded that the chunks could be compared with",
        ),
    ],
)
def test_a_comparison_without_ground_is_not_judged_however_it_came_out(
    changes: dict[str, float | None], words: str
) -> None:
    for skill in (-5.0, 0.9):
        answers = answer(**{"skill": skill, **changes})
        assert answers.like.reply is AnswerWord.UNKNOWN
        assert words in answers.like.reasons[0].text
        assert answers.reply is AnswerWord.UNKNOWN


@pytest.mark.parametrize(
    ("skill", "words"), [(0.0, "1 times"), (-3.6, "4.6 times"), (0.05, "5 % less error")]
)
def test_a_policy_that_is_no_better_than_standing_still_did_not_do_what_the_person_did(
    skill: float, words: str
) -> None:
    like = answer(skill=skill).like
    assert like.reply is AnswerWord.NO
    assert words in like.reasons[0].text


def test_a_policy_that_had_no_action_for_half_of_the_time_did_not_do_it_either() -> None:
    like = answer(coverage=0.5).like
    assert like.reply is AnswerWord.NO
    assert (
        like.reasons[0].text
        == "The policy had an action for 50 % of the time (wanted: at least 95 %), and none for the rest"
    )


def test_every_criterion_names_a_metric_and_says_why() -> None:
    assert {one.metric for one in DEFAULT_GATE} <= set(gate_names())
    assert all(one.why for one in DEFAULT_GATE)
    assert {one.question for one in DEFAULT_GATE} == set(Question)


def test_the_json_holds_the_words_of_the_page() -> None:
    moment = WorstMoment(MomentKind.HOLD, 2.5, "The arm is held", 1.25, "s")
    answers = answer_questions(GOOD, EVIDENCE, {Question.SAFE: (moment,), Question.LIKE: ()})
    told: dict[str, Any] = answers_as_json(answers)
    assert told["safe"]["answer"] == "yes"
    assert told["safe"]["question"] == "Would this have been safe?"
    assert "people and objects" in told["safe"]["bounds"]
    assert [one["text"] for one in told["safe"]["reasons"]] == [one.text for one in answers.safe.reasons]
    assert told["safe"]["moments"] == [
        {"kind": "hold", "seconds": 2.5, "text": "The arm is held", "value": 1.25, "unit": "s"}
    ]


def test_the_word_none_is_no_file_even_where_one_has_that_name(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none").write_text("thresholds: {coverage: {min: 0.5}}")
    assert gate_option("none").source is GateSource.NONE
    assert gate_option("./none").thresholds[0].metric == "coverage"
    assert gate_option(None).source is GateSource.DEFAULT


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (73.0, "30 planner contexts"),
        (0.0, "30 planner contexts"),
        (72.0, "30 planner contexts; 72 chunks judged"),
    ],
)
def test_chunks_that_were_not_judged_are_accounted_for(refused: float, words: str) -> None:
    """ "72 of 72 chunks would have been refused" stood beside "chunks 73", and nothing said why."""
    counts = {
        "chunks": 73.0,
        "contexts": 30.0,
        "safety_ok": None,
        "safety_changed": 0.0,
        "safety_refused": refused,
    }
    assert contexts_and_judged(counts) == words
