# SPDX-License-Identifier: Apache-2.0
"""A device that its driver reports as not following: nothing is sent, and it starts where it is, after a go."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from safety_world import ARM, LIMITS, MS, World

from wam.core.verdict import Finding, Ladder, Verdict
from wam.runtime.safety import cycle

NOT_READY = Finding(Verdict.HOLD, "device_not_ready", "arm does not follow: the program does not run", "arm")


def test_a_streamed_arm_starts_where_it_is_measured() -> None:
    world = World(start_by_itself=False)
    world.step(10)
    world.cycle.resume()
    world.step(100)
    assert world.rung is Ladder.NOMINAL
    world.cycle.raise_cause(NOT_READY, of="left")
    still = len(world.stream)
    world.step(100)
    assert len(world.stream) == still
    world.cycle.withdraw_cause("device_not_ready", of="left")
    world.step(60)
    assert world.cycle.ladder.code == "awaiting_resume"
    assert np.ptp(np.array(world.stream[still:]), axis=0).max() < 1e-9


def fast_world() -> World:
    """Arms at about 0.5 rad/s, in the middle of a wave."""
    world = World()
    world.amplitude, world.frequency = 0.3, 0.3
    world.step(180)
    assert np.abs(world.cycle.velocity).max() > 0.3
    return world


@pytest.mark.parametrize("guessed", [True, False])
def test_an_arm_that_only_seems_not_to_follow_comes_to_rest_before_its_commands_end(guessed: bool) -> None:
    """A guess from joint states that stood still ended the commands at once: the arm was left at speed."""
    world = fast_world()
    before, silences = len(world.stream), len(world.silences)
    world.cycle.raise_cause(replace(NOT_READY, guessed=guessed), of="left")
    world.step(60)
    assert world.rung is Ladder.HOLD
    assert world.cycle.ladder.code == "device_not_ready"
    sent = len(world.stream) - before
    assert len(world.silences) - silences == 60 - sent, "once they have ended nothing is sent"
    if not guessed:
        assert sent == 0, "what the driver says itself is no guess"
        return
    assert 0 < sent < 50
    rows = np.array(world.stream[before - 20 :])
    speed = np.diff(rows, axis=0) / 0.01
    assert np.abs(speed[18]).max() > 0.3
    assert not speed[-2:].any(), "at rest"
    assert np.all(np.abs(np.diff(speed, axis=0)) / 0.01 <= LIMITS.acceleration * (1 + 1e-6))
    world.check()


def test_an_alignment_ends_at_rest_for_an_arm_that_seems_not_to_follow() -> None:
    world = World()
    world.step(60)
    world.sending = False
    world.step(80)
    world.cycle.estop()
    world.step(20)
    off = world.stream[-1] + 0.25 * (np.arange(14) == 0)
    for tick in range(120):
        world.measured = off
        if tick == 20:
            world.cycle.clear_fault()
        world.step()
    assert world.cycle.ladder.code == "aligning"
    assert np.abs(world.cycle.velocity).max() > 0.01
    before = len(world.stream)
    world.cycle.raise_cause(replace(NOT_READY, guessed=True), of="left")
    for _ in range(60):
        world.measured = off
        world.step()
    sent = np.array(world.stream[before:])
    assert 0 < len(sent) < 50
    assert not np.diff(sent[-3:], axis=0).any()
    assert abs(sent[-1][0] - off[0]) > 0.05, "it has not gone on to the arm"
    world.check()


def test_commands_to_an_arm_whose_joint_states_are_missing_come_to_rest_before_they_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They ended as soon as the states were missing for long enough, also where the arm was still braking."""
    monkeypatch.setattr(cycle, "AWAY_NS", 60 * MS)
    world = fast_world()
    before = len(world.stream)
    world.states = False
    world.step(80)
    assert world.silences, "nothing is sent to an arm that may be led by hand"
    sent = np.array(world.stream[before:])
    assert not np.diff(sent[-3:], axis=0).any()
    world.check()


def test_joint_states_that_were_missing_for_long_need_a_go() -> None:
    """A bus that was lost and comes back brings an arm that somebody may have moved."""
    world = World(start_by_itself=False)
    world.step(10)
    world.cycle.resume()
    world.step(100)
    world.states = False
    world.step(20)
    world.states = True
    world.step(60)
    assert world.rung is Ladder.NOMINAL, "a short gap"
    world.states = False
    world.step(80)
    world.states = True
    still = len(world.stream)
    world.step(60)
    assert world.cycle.ladder.code == "awaiting_resume"
    assert np.ptp(np.array(world.stream[still:]), axis=0).max() < 1e-9


def test_an_arm_that_was_away_is_commanded_from_where_it_is() -> None:
    """The stream went on from where it had come to rest: a Franka's controller, activated again, jumped by 68 mrad."""
    world = World(start_by_itself=False)
    world.step(10)
    world.cycle.resume()
    world.step(100)
    world.states = False
    world.step(80)
    told = len(world.stream)
    world.step(20)
    assert len(world.stream) == told, "nothing is sent to an arm that may be led by hand"
    world.measured = world.measured + 0.07 * ARM
    where = world.measured.copy()
    world.states = True
    world.step(60)
    assert world.cycle.ladder.code == "awaiting_resume"
    np.testing.assert_allclose(np.array(world.stream[told:]), np.tile(where, (60, 1)), atol=1e-9)
