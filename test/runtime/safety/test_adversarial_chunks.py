# SPDX-License-Identifier: Apache-2.0
"""Whatever chunks come in, at whatever times: the emitted stream keeps position, velocity, acceleration and jerk."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wam.bench.seams import Adversary, Judge, run_part
from wam.core.chunk import ActionChunk
from wam.core.chunk.splice import Strategy
from wam.devices.loader import load_robot
from wam.runtime.safety.build import build_cycle, settings_for
from wam.runtime.safety.filters import build_chain

TICK = 10_000_000
ROBOT = load_robot("piper")
CHAIN = build_chain(ROBOT, model=False)
LIMITS = ROBOT.limits()
HOME = np.array([joint.home for joint in ROBOT.joints])

values = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(-3.2, 3.2),
    st.sampled_from([0.0, 5e-324, -5e-324, 1e300, np.nan, np.inf]),
)


@st.composite
def chunks(draw: st.DrawFn) -> dict[str, Any]:
    """A chunk as anybody could publish it: few or many rows, of few or many joints, early, late, permuted."""
    count = draw(st.integers(1, 14))
    names = draw(st.permutations(ROBOT.joint_names))[:count]
    rows = draw(st.integers(1, 20))
    base = np.array([HOME[ROBOT.joint_names.index(name)] for name in names])
    shape = draw(st.sampled_from(["near", "any", "ramp"]))
    if shape == "any":
        table = np.array(draw(st.lists(values, min_size=rows * count, max_size=rows * count)))
        table = table.reshape(rows, count)
    else:
        offset = np.array(draw(st.lists(st.floats(-0.3, 0.3), min_size=count, max_size=count)))
        grow = np.arange(rows)[:, None] if shape == "ramp" else np.ones((rows, 1))
        table = base + offset * grow
    return {
        "joint_names": tuple(names),
        "rows": table,
        "delay_ns": draw(st.integers(-2 * 10**8, 10**9)),
        "row_period_ns": draw(st.sampled_from([1_000_000, 10_000_000, 33_333_333, 500_000_000])),
        "generation": draw(st.integers(1, 3)),
        "sequence": draw(st.integers(0, 50)),
        "context_age_ns": draw(st.integers(-(10**9), 10**10)),
        "ticks": draw(st.integers(0, 40)),
    }


@settings(max_examples=120)
@given(sequence=st.lists(chunks(), min_size=1, max_size=8), strategy=st.sampled_from(list(Strategy)))
def test_no_chunk_makes_the_stream_leave_a_limit(sequence: list[dict[str, Any]], strategy: Strategy) -> None:
    wall = [0]
    cycle = build_cycle(ROBOT, settings_for(ROBOT, strategy=strategy), CHAIN, wall=lambda: wall[0])
    judge = Judge(LIMITS, period=0.01)
    now = 10**18
    measured = HOME
    for one in sequence:
        given_ = dict(one)
        ticks, delay = given_.pop("ticks"), given_.pop("delay_ns")
        cycle.offer_chunk(
            ActionChunk(
                stamp_ns=now - delay, contract_hash="a", context_version=1, phase_offset_rows=0, **given_
            ),
            arrival_ns=now,
        )
        for _ in range(ticks + 1):
            now += TICK
            wall[0] += TICK
            cycle.offer_state("left", stamp_ns=now, positions=measured[:7])
            cycle.offer_state("right", stamp_ns=now, positions=measured[7:])
            if cycle.ladder.stopped:
                cycle.clear_fault()
            result = cycle.step(now)
            assert result.position is not None
            judge.add(result.position)
            measured = result.position
    judge.restart()
    assert judge.violations == 0


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_jump_of_clock_or_loss_of_state_makes_the_stream_leave_a_limit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wall = [0]
    cycle = build_cycle(ROBOT, settings_for(ROBOT), CHAIN, wall=lambda: wall[0])
    judge = Judge(LIMITS, period=0.01)
    adversary = Adversary(ROBOT, seed=seed)
    now = 10**18
    position = HOME
    for _ in range(300):
        event = rng.random()
        wall[0] += TICK
        now += TICK
        if event < 0.01:
            now += int(rng.choice([-(10**10), -(10**8), 10**10]))
        elif event < 0.02:
            cycle.estop()
        elif event < 0.05:
            cycle.clear_fault()
        if event > 0.1:
            cycle.offer_state("left", stamp_ns=now, positions=position[:7])
            cycle.offer_state("right", stamp_ns=now, positions=position[7:])
        if rng.random() < 0.2:
            cycle.offer_chunk(adversary.chunk(now_ns=now, position=position), arrival_ns=now)
        cycle.speed_scaling = float(rng.choice([1.0, 1.0, 0.4]))
        result = cycle.step(now)
        if result.position is not None:
            judge.add(result.position)
            position = result.position
    judge.restart()
    assert judge.violations == 0


@pytest.mark.parametrize("robot", ["piper", "franka", "ur5e_inspire"])
def test_a_short_run_of_the_bench_finds_no_violation(robot: str) -> None:
    count = run_part(robot, 1500, 7)
    assert count.chunks == 1500
    assert count.violations == 0
    assert count.accepted > 200


@pytest.mark.parametrize("at", [0.0, 0.02, 1e9, float("nan")])
def test_the_judge_of_the_bench_sees_what_it_is_there_for(at: float) -> None:
    judge = Judge(LIMITS, period=0.01)
    for _ in range(10):
        judge.add(HOME)
    with np.errstate(invalid="ignore"):
        judge.add(HOME + at)
        judge.restart()
    assert (judge.violations > 0) is (at != 0.0)
