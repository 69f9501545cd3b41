# SPDX-License-Identifier: Apache-2.0
"""Efforts and external torques in the safety cycle, against the limits of the robot file."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from safety_world import ROBOT, World, running

from wam.core.safety.effort import BLIND_NS, EffortLimits
from wam.core.verdict import Finding, Ladder, Verdict
from wam.robots.description import RobotDescription
from wam.runtime.safety.effort_guard import EffortGuard

JOINT = "left_joint2"
COLUMN = ROBOT.joint_names.index(JOINT)
LIMITS = EffortLimits(8.0, 15.0, "N m")
N = len(ROBOT.joint_names)


def limited(**changes: EffortLimits) -> RobotDescription:
    """Return the robot with limits on one joint of the left arm."""

    def joints(group: Any) -> Any:
        return tuple(replace(one, **changes) if one.name == JOINT else one for one in group.joints)

    return replace(ROBOT, groups=tuple(replace(group, joints=joints(group)) for group in ROBOT.groups))


def guarded(ticks: int = 60, *, start_by_itself: bool = False) -> World:
    """Return a world that runs, whose drivers report small efforts."""
    world = World(efforts=EffortGuard(limited(effort=LIMITS)), start_by_itself=start_by_itself)
    world.efforts = np.full(N, 0.5)
    world.step(5)
    world.cycle.resume()
    world.step(ticks)
    assert world.rung is Ladder.NOMINAL
    return world


def push(world: World, effort: float, ticks: int) -> None:
    assert world.efforts is not None
    world.efforts[COLUMN] = effort
    world.step(ticks)


def test_an_arm_that_pushes_is_held_on_its_plan_and_moves_again_only_after_a_go() -> None:
    world = guarded()
    push(world, -9.0, 40)
    assert world.rung is Ladder.HOLD
    assert world.cycle.ladder.code == "effort_high"
    cause = world.cycle.ladder.cause
    assert cause is not None
    assert (cause.joint, cause.value, cause.limit) == (JOINT, 9.0, 8.0)
    assert np.ptp(world.stream[-5:], axis=0).max() == 0.0, "it has come to rest"
    push(world, 0.5, 100)
    assert world.cycle.ladder.code == "awaiting_resume"
    world.cycle.resume()
    world.step(40)
    assert world.rung is Ladder.NOMINAL
    world.check()


def test_an_arm_that_starts_by_itself_goes_on_once_its_joints_have_been_calm() -> None:
    world = guarded(start_by_itself=True)
    push(world, 9.0, 20)
    assert world.cycle.ladder.code == "effort_high"
    push(world, 0.5, 45)
    assert world.cycle.ladder.code == "effort_high", "half a second has not passed"
    world.step(30)
    assert world.rung is Ladder.NOMINAL
    world.check()


def test_the_second_limit_is_a_stop_that_can_be_cleared_under_the_effort_that_caused_it() -> None:
    """An arm that pushes against a table keeps pushing while it is held: a clear that waited for the end would never
    come."""
    world = guarded()
    push(world, 16.0, 60)
    assert (world.rung, world.cycle.ladder.code) == (Ladder.STOP, "effort_limit")
    world.cycle.clear_fault()
    world.step(2)
    assert world.rung is Ladder.HOLD
    world.cycle.resume()
    world.step(60)
    assert world.rung is Ladder.NOMINAL, "it may be led away"
    push(world, 18.0, 10)
    assert (world.rung, world.cycle.ladder.code) == (Ladder.STOP, "effort_limit"), "and may not push harder"
    world.check()


@pytest.mark.parametrize("request_", ["resume", "clear_fault"])
def test_requests_to_an_arm_in_motion_do_not_let_a_joint_push_harder(request_: str) -> None:
    """A go that was repeated while the arm moved began the count anew and took what the joint had for its limit: with
    one in each tick the guard never held, whatever the effort."""
    world = guarded()
    for effort in np.linspace(7.0, 14.0, 12):
        getattr(world.cycle, request_)()
        push(world, effort, 1)
        getattr(world.cycle, request_)()
        if world.rung is Ladder.HOLD:
            break
    assert world.cycle.ladder.code == "effort_high"


def test_a_held_arm_that_keeps_pushing_can_be_led_away() -> None:
    world = guarded()
    push(world, 9.0, 60)
    assert world.cycle.ladder.code == "effort_high"
    world.cycle.resume()
    world.step(40)
    assert world.rung is Ladder.NOMINAL
    push(world, 11.0, 10)
    assert world.cycle.ladder.code == "effort_high"


@pytest.mark.parametrize("reported", [math.nan, math.inf])
def test_efforts_that_are_no_numbers_hold_the_arm_and_leave_its_positions_alone(reported: float) -> None:
    world = guarded()
    push(world, reported, BLIND_NS // 10_000_000 + 2)
    assert world.cycle.ladder.code == "effort_unknown"
    seen = world.cycle.measured(world.now_ns)
    assert seen.stale is None
    assert np.abs(seen.positions - world.measured).max() < 0.01
    push(world, 0.5, 60)
    assert world.rung is Ladder.NOMINAL, "nobody was touched: no go is needed"


def test_a_driver_that_reports_no_effort_at_all_never_lets_the_arm_move() -> None:
    world = World(efforts=EffortGuard(limited(effort=LIMITS)), start_by_itself=True)
    world.step(60)
    assert world.cycle.ladder.code == "effort_unknown"
    assert np.ptp(world.stream, axis=0).max() == 0.0


def test_external_torques_stop_the_arm_and_their_silence_holds_it() -> None:
    guard = EffortGuard(limited(external_torque=EffortLimits(3.0, 6.0, "N m")))
    world = World(efforts=guard, start_by_itself=True)
    torques = np.full(7, 0.1)

    def step(ticks: int) -> None:
        for _ in range(ticks):
            world.cycle.offer_external_torque("left", torques=torques)
            world.step()

    step(60)
    assert world.rung is Ladder.NOMINAL
    world.step(BLIND_NS // 10_000_000 + 2)
    assert world.cycle.ladder.code == "external_torque_unknown"
    step(60)
    assert world.rung is Ladder.NOMINAL
    torques[COLUMN] = -7.0
    step(20)
    assert (world.rung, world.cycle.ladder.code) == (Ladder.STOP, "external_torque_limit")
    assert guard.newest()[f"{JOINT}.external_torque"] == 7.0
    world.check()


def test_an_arm_that_does_not_follow_may_be_led_by_hand() -> None:
    """Guiding a Franka by hand puts external torques on every joint."""
    world = guarded()
    world.cycle.raise_cause(Finding(Verdict.HOLD, "device_not_ready", "guided by hand", "left"))
    push(world, 20.0, 60)
    assert (world.rung, world.cycle.ladder.code) == (Ladder.HOLD, "device_not_ready")
    push(world, 0.5, 60)
    world.cycle.withdraw_cause("device_not_ready")
    world.step(5)
    assert world.cycle.ladder.code == "awaiting_resume"


def test_a_robot_without_limits_takes_no_notice_of_efforts() -> None:
    world = running()
    world.efforts = np.full(N, np.nan)
    world.step(60)
    world.efforts = np.full(N, 1e6)
    world.step(60)
    assert world.rung is Ladder.NOMINAL
    assert not EffortGuard(ROBOT).guarded


def test_a_clock_that_jumps_makes_no_guard_blind_for_longer_than_the_next_states() -> None:
    world = guarded(start_by_itself=True)
    world.now_ns -= 10**12
    world.step(5)
    world.step(60)
    assert world.rung is Ladder.NOMINAL


def test_limits_of_what_a_twin_does_not_report_are_left_out_by_name() -> None:
    amperes = EffortGuard(limited(effort=EffortLimits(1.0, unit="A")), simulated=True)
    assert amperes.left_out == (JOINT,)
    assert not amperes.guarded
    torque = EffortGuard(limited(effort=LIMITS, external_torque=LIMITS), simulated=True)
    assert torque.left_out == (JOINT,)
    assert torque.watches(ROBOT.groups[0])
    assert not torque.watches(ROBOT.groups[0], external=True)
    assert not torque.watches(ROBOT.groups[1])
    assert EffortGuard(limited(effort=LIMITS), simulated=True).left_out == ()
