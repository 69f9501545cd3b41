# SPDX-License-Identifier: Apache-2.0
"""A task's run: every ending has its constant, and the first cause is the one reported."""

from __future__ import annotations

import pytest

from wam.core.clock import NS_PER_S
from wam.core.verdict import Ladder
from wam.runtime.task import Result, TaskLimits, TaskRun
from wam_msgs.action import RunTask

LIMITS = TaskLimits(time_limit_ns=10 * NS_PER_S, hold_grace_ns=2 * NS_PER_S, silence_ns=3 * NS_PER_S)


def running(limits: TaskLimits = LIMITS) -> TaskRun:
    run = TaskRun(limits, now_ns=0)
    run.on_ladder(Ladder.NOMINAL, text="chunks", now_ns=0)
    return run


def alive(run: TaskRun, now_ns: int) -> None:
    run.on_status("wam_planner", fault="", now_ns=now_ns)
    run.on_status("wam_executor", fault="", now_ns=now_ns)


def test_every_constant_of_the_action_is_a_result_and_the_other_way_round() -> None:
    prefix = "RESULT_"
    constants = {
        name.removeprefix(prefix): getattr(RunTask.Result, name)
        for name in dir(RunTask.Result)
        if name.startswith(prefix)
    }
    assert constants == {result.name: int(result) for result in Result}


def test_a_run_goes_on_while_all_is_well_and_ends_at_its_time_limit() -> None:
    run = running()
    alive(run, 9 * NS_PER_S)
    assert run.poll(9 * NS_PER_S, safety_there=True) is None
    alive(run, 10 * NS_PER_S)
    ending = run.poll(10 * NS_PER_S, safety_there=True)
    assert ending is not None
    assert ending.result is Result.TIME_LIMIT


def test_a_time_limit_of_zero_is_no_limit() -> None:
    run = running(TaskLimits(time_limit_ns=0, hold_grace_ns=NS_PER_S, silence_ns=NS_PER_S))
    alive(run, 10**15)
    assert run.poll(10**15, safety_there=True) is None


def test_a_short_hold_is_survived_and_a_long_one_ends_the_run() -> None:
    run = running()
    run.on_ladder(Ladder.HOLD, text="no chunk", now_ns=NS_PER_S)
    alive(run, 2 * NS_PER_S)
    assert run.poll(2 * NS_PER_S, safety_there=True) is None
    run.on_ladder(Ladder.NOMINAL, text="chunks again", now_ns=2 * NS_PER_S)
    run.on_ladder(Ladder.HOLD, text="no chunk", now_ns=3 * NS_PER_S)
    alive(run, 6 * NS_PER_S)
    ending = run.poll(6 * NS_PER_S, safety_there=True)
    assert ending is not None
    assert ending.result is Result.HOLD
    assert "3.0 s" in ending.message


def test_a_run_that_never_leaves_hold_ends_after_the_grace_time() -> None:
    run = TaskRun(LIMITS, now_ns=0)
    ending = run.poll(2 * NS_PER_S + 1, safety_there=True)
    assert ending is not None
    assert ending.result is Result.HOLD


def test_stop_ends_the_run_at_once_with_its_reason() -> None:
    run = running()
    run.on_ladder(Ladder.STOP, text="joint left_joint2 beyond its limit", now_ns=1)
    ending = run.poll(1, safety_there=True)
    assert ending is not None
    assert (ending.result, "left_joint2" in ending.message) == (Result.STOP, True)


@pytest.mark.parametrize("node", ["wam_planner", "wam_executor"])
def test_a_fault_of_a_policy_half_ends_the_run_and_names_the_node(node: str) -> None:
    run = running()
    run.on_status(node, fault="non-finite rows", now_ns=1)
    ending = run.poll(1, safety_there=True)
    assert ending is not None
    assert (ending.result, ending.message) == (Result.POLICY_FAULT, f"{node}: non-finite rows")


@pytest.mark.parametrize("silent", ["wam_planner", "wam_executor"])
def test_a_silent_node_is_lost(silent: str) -> None:
    run = running()
    for node in ("wam_planner", "wam_executor"):
        if node != silent:
            run.on_status(node, fault="", now_ns=4 * NS_PER_S)
    ending = run.poll(4 * NS_PER_S, safety_there=True)
    assert ending is not None
    assert (ending.result, silent in ending.message) == (Result.NODE_LOST, True)


def test_safety_that_disappears_ends_the_run() -> None:
    run = running()
    ending = run.poll(1, safety_there=False)
    assert ending is not None
    assert (ending.result, "wam_safety" in ending.message) == (Result.NODE_LOST, True)


def test_the_first_cause_is_latched() -> None:
    run = running()
    run.end(Result.CANCELED, "the client canceled")
    run.on_ladder(Ladder.STOP, text="later", now_ns=5)
    ending = run.poll(5, safety_there=False)
    assert ending is not None
    assert ending.result is Result.CANCELED
