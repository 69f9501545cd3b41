# SPDX-License-Identifier: Apache-2.0
"""Kicks push the arm off its path and leave grippers, limits and the recorded action alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from wam.devices.loader import load_robot
from wam.sim.kicks import LENGTHS, SIZE, Kick, Kicks

ROBOT = load_robot("piper")
HOME = np.array([joint.home for joint in ROBOT.joints])
STILL = np.zeros(len(ROBOT.joints))
ARM = np.array([not joint.is_gripper for joint in ROBOT.joints])


def kicks(seed: int = 3) -> Kicks:
    return Kicks(ROBOT, seed=seed, until=30.0)


def test_the_kicks_of_a_seed_are_always_the_same_and_those_of_another_differ() -> None:
    first, again, other = kicks(3), kicks(3), kicks(4)
    assert len(first.kicks) > 3
    assert [kick.start for kick in first.kicks] == [kick.start for kick in again.kicks]
    assert [kick.start for kick in first.kicks] != [kick.start for kick in other.kicks]


def test_kicks_do_not_overlap_and_move_no_gripper() -> None:
    made = kicks().kicks
    for before, after in itertools.pairwise(made):
        assert before.start + before.length <= after.start
    assert all(LENGTHS[0] <= kick.length <= LENGTHS[1] for kick in made)
    assert all((kick.peak[~ARM] == 0).all() and np.abs(kick.peak).max() <= SIZE for kick in made)


def test_targets_outside_a_kick_are_those_that_were_given() -> None:
    made = kicks()
    position, velocity = made.pushed(HOME, STILL, made.kicks[0].start)
    assert (position == HOME).all()
    assert (velocity == STILL).all()


def test_a_kick_starts_and_ends_without_a_jump_and_its_velocity_is_the_slope_of_its_positions() -> None:
    made = kicks()
    kick = made.kicks[0]
    times = np.linspace(kick.start, kick.start + kick.length, 2001)
    pairs = [made.pushed(HOME, STILL, float(time)) for time in times]
    positions, velocities = (np.stack(rows) for rows in zip(*pairs, strict=True))
    assert np.abs(positions[[0, -1]] - HOME).max() < 1e-9
    np.testing.assert_allclose(
        positions[1000] - HOME, np.clip(HOME + kick.peak, *_limits()) - HOME, atol=1e-9
    )
    slope = np.gradient(positions, times, axis=0)
    free = ((positions > _limits()[0]) & (positions < _limits()[1])).all(axis=0)
    assert free.sum() > 6
    np.testing.assert_allclose(slope[5:-5, free], velocities[5:-5, free], atol=2e-3)


def test_a_kick_never_leaves_the_position_limits() -> None:
    made = kicks()
    lower, upper = _limits()
    kick = made.kicks[0]
    for start in (lower, upper):
        position, velocity = made.pushed(start, STILL, kick.start + kick.length / 2)
        assert (position >= lower).all()
        assert (position <= upper).all()
        stopped = position == start
        assert (velocity[stopped] == 0).all()


def _limits() -> tuple[np.ndarray, np.ndarray]:
    limits = ROBOT.limits()
    return limits.lower, limits.upper


@pytest.mark.sim
def test_an_expert_that_is_kicked_recovers_and_its_recorded_action_does_not_follow_the_kick() -> None:
    from wam.sim.actors import ExpertActor
    from wam.sim.experts.registry import make_expert
    from wam.sim.rollout import Frame, RolloutOptions, rollout
    from wam.sim.tasks.registry import find_task
    from wam.sim.tasks.world import TaskWorld

    world = TaskWorld(find_task("piper_move_large_object"))
    played = {}
    for kicked in (False, True):
        frames: list[Frame] = []

        class Keep:
            def on_frame(self, frame: Frame, frames: list[Frame] = frames) -> None:
                frames.append(frame)

        result = rollout(
            world,
            ExpertActor(lambda episode: make_expert(episode.world)),
            seed=2,
            options=RolloutOptions(kicks=kicked),
            observers=(Keep(),),
        )
        assert result.success
        played[kicked] = frames
    kick = Kicks(ROBOT, seed=2, until=10.0).kicks[0]
    states, actions = (
        {
            kicked: np.stack([pick(frame) for frame in frames if _inside(kick, frame.time)])
            for kicked, frames in played.items()
        }
        for pick in (lambda frame: frame.observation.state.positions, lambda frame: frame.action)
    )
    pushed = np.abs(states[True] - states[False]).max()
    assert pushed > SIZE / 3
    # Before anything is touched, the expert wants what it would have wanted without a kick.
    assert np.abs(actions[True] - actions[False]).max() < pushed / 10


def _inside(kick: Kick, time: float) -> bool:
    return kick.start < time < kick.start + kick.length
