# SPDX-License-Identifier: Apache-2.0
"""What a run came to, in words: moved as measured, held and by what, refused, and a machine that was too slow."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from wam.core.ladder import CAUSES
from wam.devices.loader import load_robot
from wam.evaluation.closed_loop.scores import EpisodeRecord, Evaluation
from wam.evaluation.closed_loop.table import compute_evaluation
from wam.evaluation.closed_loop.verdict import headline, verdict_of
from wam.evaluation.happened import (
    LATENESS,
    MeasuredMotion,
    farthest,
    held_text,
    motion_of,
    percent,
    plain,
    refused_text,
    since_first_chunk,
    slow_text,
)
from wam.report.tone import Tone

STILL = MeasuredMotion("fr3_joint2", 1e-20, 0.0, "rad")
HELD = EpisodeRecord(
    seed=0,
    variant="blue cube",
    instruction="",
    success=False,
    score=0,
    stages=(),
    time=10.0,
    max_contact_force=0.0,
    held={"jump": 10.0},
    refused=71,
    motion=STILL,
)
RUN = Evaluation(
    task="franka_box_to_bowl",
    title="brown box to golden bowl",
    stage_names=("grasped", "carried", "placed"),
    setting="seen",
    robot="franka",
    policy="bundle",
    contract_hash="",
    mode="fast",
    episodes=(HELD, replace(HELD, seed=1)),
)


def test_the_joint_that_moved_most_of_its_range_is_told() -> None:
    joints = load_robot("franka").groups[0].joints
    positions = np.zeros((3, len(joints)))
    positions[1, 1] = 0.5
    positions[:, 0] = np.nan
    motion = motion_of(joints, positions)
    assert (motion.joint, motion.amount, motion.unit, motion.moved) == (joints[1].name, 0.5, "rad", True)
    assert motion.text.startswith(f"the robot moved ({joints[1].name} by 0.5 rad")


def test_noise_of_a_robot_at_rest_is_no_motion() -> None:
    """A run held for all of its time was told as "the robot moved"; its joints had moved by 1e-20 rad."""
    joints = load_robot("franka").groups[0].joints
    assert not motion_of(joints, 1e-20 * np.ones((2, len(joints)))).moved
    assert "did not move" in STILL.text


def test_nothing_measured_is_told_as_such() -> None:
    motion = motion_of(load_robot("franka").groups[0].joints, np.empty((0, 7)))
    assert motion.text == "whether the robot moved was not measured"
    assert farthest([None, motion]) is None


def test_the_same_words_name_a_cause_everywhere() -> None:
    assert held_text(0.44, {"stale_chunk": 0.3, "a_new_cause": 0.14}) == (
        "the robot was held 44 % of the time (all rows in the past 30 %, a new cause 14 %)"
    )
    assert plain("jump") == "beginning too far from where the arm is"


@pytest.mark.parametrize("share", [math.nan, 0.0, 0.004])
def test_a_hold_that_is_next_to_nothing_is_not_told(share: float) -> None:
    assert held_text(share, {}) == ""


def test_causes_by_which_a_slow_machine_shows_are_causes_or_findings_that_exist() -> None:
    findings = {"stale_chunk"}  # of a chunk that is not admitted
    assert set(CAUSES) | findings >= LATENESS


@pytest.mark.parametrize(
    ("factor", "chunk_ms", "late", "said"),
    [
        (1.0, 20.0, 0.0, ""),
        (1.0, 500.0, 0.0, ""),
        (1.0, 20.0, 0.5, ""),
        (0.5, 20.0, 0.0, "this machine was too slow: simulated time passed at 0.50 of real time"),
        (1.0, 500.0, 0.5, "this machine was too slow: a chunk took 500 ms, and one is due every 100 ms"),
    ],
)
def test_a_machine_is_too_slow_where_time_or_chunks_lag_and_the_robot_waits(
    factor: float, chunk_ms: float, late: float, said: str
) -> None:
    assert slow_text(factor, chunk_ms, late_share=late, period_ms=100.0) == said


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.0, "0 %"), (0.001, "under 1 %"), (0.444, "44 %"), (0.999, "over 99 %"), (1.0, "100 %")],
)
def test_a_share_is_never_rounded_to_all_or_nothing(share: float, said: str) -> None:
    assert percent(share) == said


def test_a_worst_rung_says_from_when_it_counts() -> None:
    """A demo said "worst rung NOMINAL" above a ladder that begins in HOLD, which is before the first chunk."""
    assert since_first_chunk(1) == "since the first chunk: 1 safety event"
    assert since_first_chunk(0) == "since the first chunk: 0 safety events"


def test_an_evaluation_says_that_nothing_moved_and_why() -> None:
    """It said "0 of 2 succeeded" and never said that both were held by a jump of 1.0 rad."""
    figures = compute_evaluation(RUN)
    said = headline(RUN, figures)
    assert said == (
        "0 of 2 episodes succeeded; in 2 of them the robot did not move; "
        "the robot was held 100 % of the time (beginning too far from where the arm is 100 %); "
        "142 of 142 chunks were refused"
    )
    assert verdict_of(RUN, figures)[:2] == (Tone.BAD, said)
    assert refused_text(0, 5) == ""
    line = HELD.line(1, 2)
    assert "the robot did not move" in line
    assert "71 of 71 chunks were refused" in line
