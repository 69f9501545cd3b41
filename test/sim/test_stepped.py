# SPDX-License-Identifier: Apache-2.0
"""Episodes that the caller steps: the frames of a recording, and rows that are followed within the robot's limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from small_episodes import TASK, small_franka

from wam.core.errors import ConfigError, JointError
from wam.devices.loader import load_robot
from wam.robots.description import RobotDescription
from wam.sim.actors import ExpertActor
from wam.sim.experts.registry import make_expert
from wam.sim.rollout import Frame, RolloutOptions, rollout
from wam.sim.stepped import SteppedEpisode, allowed_targets
from wam.sim.tasks.registry import find_task
from wam.sim.tasks.world import TaskWorld

__all__ = ["small_franka"]

pytestmark = pytest.mark.sim

Rows = npt.NDArray[np.float64]
SEED = 1000
SPARE_ROWS = 5
"""The last row is repeated: what is stepped is one row behind what was recorded."""


class KeptFrames:
    """Keeps the frames of an episode."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def on_frame(self, frame: Frame) -> None:
        self.frames.append(frame)


@pytest.fixture(scope="module")
def world() -> TaskWorld:
    return TaskWorld(find_task(TASK))


@pytest.mark.parametrize(
    "task",
    [
        TASK,
        pytest.param("piper_move_large_object", marks=pytest.mark.slow),
        pytest.param("ur5e_inspire_put_block", marks=pytest.mark.slow),
    ],
)
def test_the_recorded_rows_of_an_expert_succeed_on_their_seed_and_are_within_every_limit(task: str) -> None:
    world, recorded = TaskWorld(find_task(task)), KeptFrames()
    expert = ExpertActor(lambda episode: make_expert(episode.world))
    assert rollout(world, expert, seed=SEED, observers=[recorded]).success
    frames = recorded.frames
    rows = [
        frame.command.astype(np.float32).astype(np.float64) for frame in frames
    ]  # as a data set holds them
    episode = SteppedEpisode(world)
    seen = episode.reset(SEED)
    np.testing.assert_array_equal(seen.state.positions, frames[0].observation.state.positions)
    gained = 0
    for index, row in enumerate([*rows, *[rows[-1]] * SPARE_ROWS]):
        done = episode.step(row)
        gained += done.gained
        assert not done.limited
        assert not done.error
        if index + 1 < len(frames):
            assert done.observation.stamp_ns == frames[index + 1].observation.stamp_ns
        if done.success:
            break
    assert done.success
    assert gained == done.progress == 3


@pytest.mark.camera
def test_the_same_seed_shows_the_same_first_frame_whatever_was_played_before(
    small_franka: RobotDescription,
) -> None:
    world = TaskWorld(find_task(TASK), robot=small_franka)
    episode = SteppedEpisode(world, RolloutOptions(cameras=("side", "wrist")))
    first = episode.reset(4)
    episode.step(first.state.positions + 0.05)
    other = episode.reset(5)
    again = episode.reset(4)
    episode.close()
    np.testing.assert_array_equal(first.state.positions, again.state.positions)
    for name in ("side", "wrist"):
        assert first.frames[name].rgb.shape == (48, 64, 3)
        np.testing.assert_array_equal(first.frames[name].rgb, again.frames[name].rgb)
    assert np.any(first.frames["side"].rgb != other.frames["side"].rgb)


def test_an_episode_ends_at_its_time_limit_and_not_a_row_earlier(world: TaskWorld) -> None:
    episode = SteppedEpisode(world, RolloutOptions(frame_rate=15.0, time_limit=0.2))
    still = episode.reset(SEED).state.positions
    assert episode.rows == 3
    assert [episode.step(still).out_of_time for _ in range(3)] == [False, False, True]
    assert SteppedEpisode(world).rows == round(15 * world.task.time_limit)


def test_a_row_beyond_the_limits_is_followed_only_so_far_and_said_to_be_limited(world: TaskWorld) -> None:
    episode = SteppedEpisode(world)
    home = episode.reset(SEED).state.positions
    far = home.copy()
    far[0] += 1.0
    done = episode.step(far)
    assert done.limited
    velocity = world.robot.limits().velocity[0]
    assert 0.0 < done.observation.state.positions[0] - home[0] <= velocity / 15 * 1.05
    assert not episode.step(home + 1e-7 + (done.observation.state.positions - home)).limited


def test_targets_are_kept_within_position_and_velocity_limits() -> None:
    limits = load_robot("franka").limits()
    start = (limits.lower + limits.upper) / 2
    far = allowed_targets(np.full_like(start, 100.0), start=start, limits=limits, time=0.1)
    assert np.all(far <= start + limits.velocity * 0.1 + 1e-12)
    assert np.all(far > start)
    late = allowed_targets(
        np.full_like(start, 100.0), start=start, limits=replace(limits, velocity_envelope=None), time=1e3
    )
    np.testing.assert_allclose(late, limits.upper)
    near = start + 1e-4
    np.testing.assert_array_equal(allowed_targets(near, start=start, limits=limits, time=0.1), near)


def test_a_row_of_another_width_or_with_a_value_that_is_not_finite_is_named_and_moves_nothing(
    world: TaskWorld,
) -> None:
    episode = SteppedEpisode(world)
    home: Rows = episode.reset(SEED).state.positions
    with pytest.raises(JointError, match=r"another width than the robot.*7.*8 positions"):
        episode.step(home[:7])
    broken = home.copy()
    broken[2] = np.nan
    with pytest.raises(JointError, match=f"not finite.*{world.robot.joint_names[2]}"):
        episode.step(broken)
    assert world.time == 0.0


def test_what_cannot_be_played_is_refused_before_anything_moves(world: TaskWorld) -> None:
    with pytest.raises(ConfigError, match="no camera of this name"):
        SteppedEpisode(world, RolloutOptions(cameras=("sidee",)))
    with pytest.raises(ValueError, match="kicks are for recordings"):
        SteppedEpisode(world, RolloutOptions(kicks=True))
    with pytest.raises(RuntimeError, match="call reset first"):
        SteppedEpisode(world).step(np.zeros(8))
