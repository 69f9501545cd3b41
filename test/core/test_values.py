# SPDX-License-Identifier: Apache-2.0
"""The values that cross every boundary: shapes checked, time by stamps, joints by name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from wam.core.clock import ManualClock, ns_to_seconds, seconds_to_ns
from wam.core.context import ContextHeader
from wam.core.contract import CameraContract, require_same_contract
from wam.core.errors import ConfigError, ContractMismatch, JointError
from wam.core.fakes import fake_contract
from wam.core.observation import CameraFrame, Instruction, Observation, RobotState, index_of
from wam.core.verdict import Finding, Verdict, worst

HEADER = ContextHeader(
    stamp_ns=1_000_000_000,
    generation=1,
    version=3,
    contract_hash="a" * 64,
    instruction="wave",
    horizon_rows=64,
    control_period_ns=33_333_333,
)


def test_an_error_says_what_value_allowed_and_where() -> None:
    error = ConfigError(
        "piper.yaml: safety.lead", value=2.0, allowed="0 .. 0.2 s", where="config/robots/piper.yaml"
    )
    assert str(error) == (
        "piper.yaml: safety.lead: got 2.0; allowed: 0 .. 0.2 s; change it in config/robots/piper.yaml"
    )


@pytest.mark.parametrize(
    ("offset_ns", "rows"), [(0, 0), (16_000_000, 0), (17_000_000, 1), (33_333_333, 1), (-17_000_000, -1)]
)
def test_the_phase_offset_is_the_nearest_whole_number_of_rows(offset_ns: int, rows: int) -> None:
    assert HEADER.phase_offset_rows(HEADER.stamp_ns + offset_ns) == rows


def test_a_context_of_a_later_generation_is_newer_whatever_its_version() -> None:
    restarted = dataclasses.replace(HEADER, generation=2, version=1)
    assert restarted.newer_than(HEADER)
    assert not HEADER.newer_than(restarted)
    assert HEADER.newer_than(None)


def test_joints_are_selected_by_name_not_by_position() -> None:
    state = RobotState(5, ("a", "b", "c"), np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 0.3]))
    chosen = state.select(("c", "a"))
    assert chosen.positions.tolist() == [3.0, 1.0]
    assert chosen.velocities.tolist() == [0.3, 0.1]


def test_a_missing_joint_is_an_error_that_lists_both_name_sets() -> None:
    with pytest.raises(JointError, match=r"joint state lacks elbow.*\['wrist'\].*\['elbow'\]"):
        index_of(("wrist",), ("elbow",), what="joint state")


def test_values_are_read_only() -> None:
    frame = CameraFrame("head", 1, np.zeros((4, 6, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        frame.rgb[0, 0, 0] = 1
    state = RobotState(1, ("a",), np.zeros(1), np.zeros(1))
    observation = Observation(1, {"head": frame}, state)
    with pytest.raises(TypeError):
        observation.frames["head"] = frame  # type: ignore[index]


def test_a_frame_that_is_not_rgb8_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not uint8 \[H, W, 3\]"):
        CameraFrame("head", 1, np.zeros((4, 6, 4), dtype=np.uint8))


@pytest.mark.parametrize("text", ["", "   ", "x" * 257])
def test_an_instruction_is_neither_empty_nor_endless(text: str) -> None:
    with pytest.raises(ValueError, match="instruction"):
        Instruction(text)


def test_a_contract_with_impossible_sizes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"chunk_rows is 32, must be in 1\.\.horizon_rows=16"):
        fake_contract(
            joint_names=("a",), cameras=(CameraContract("head", 4, 6),), chunk_rows=32, horizon_rows=16
        )


def test_a_contract_mismatch_names_both_sides() -> None:
    with pytest.raises(
        ContractMismatch, match=r"executor has contract aaaaaaaaaaaa, planner context has bbbb"
    ):
        require_same_contract(
            mine="a" * 64, theirs="b" * 64, my_side="executor", their_side="planner context"
        )


def test_the_most_severe_finding_wins_and_the_first_among_equals() -> None:
    first = Finding(Verdict.HOLD, "jump", "first")
    second = Finding(Verdict.HOLD, "stale", "second")
    mild = Finding(Verdict.SCALED, "velocity_limit", "mild")
    assert worst((mild, first, second)) is first
    assert worst(()) is None


def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(7)
    assert clock.now_ns() == 7
    assert clock.advance(3) == 10
    clock.set(2)
    assert clock.now_ns() == 2


def test_seconds_and_nanoseconds_convert_without_drift() -> None:
    assert seconds_to_ns(0.1) == 100_000_000
    assert ns_to_seconds(seconds_to_ns(123.456)) == 123.456
