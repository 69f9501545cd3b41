# SPDX-License-Identifier: Apache-2.0
"""Roll-outs: experts solve their tasks within the robot's limits, and what observers see is worth recording."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from wam.core.chunk import ActionChunk
from wam.core.clock import NS_PER_S
from wam.core.errors import ConfigError
from wam.core.observation import Observation
from wam.core.safety.filters import SlowingFilter
from wam.core.trajectory.motion import Motion
from wam.sim.actors import ChunkActor, ExpertActor
from wam.sim.experts.registry import SCRIPTS, make_expert
from wam.sim.port import JointTargets
from wam.sim.rollout import COMMAND_PERIOD_NS, Episode, EpisodeResult, Frame, RolloutOptions, rollout
from wam.sim.tasks.registry import TASKS
from wam.sim.tasks.world import TaskWorld

pytestmark = pytest.mark.sim

SEED = 3
FRAME_NS = NS_PER_S // 15
BOWL = TASKS["franka_box_to_bowl"]


@dataclass
class Watched(ExpertActor):
    """An expert whose targets are kept."""

    rows: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(lambda episode: make_expert(episode.world))

    def act(self, episode: Episode, *, due: float) -> JointTargets:
        targets = super().act(episode, due=due)
        self.rows.append(targets.positions)
        return targets


@dataclass
class Seen:
    """An observer that keeps all frames."""

    frames: list[Frame] = field(default_factory=list)

    def on_frame(self, frame: Frame) -> None:
        self.frames.append(frame)


@dataclass
class Played:
    """One episode of an expert with all that was seen of it."""

    world: TaskWorld
    result: EpisodeResult
    rows: np.ndarray
    frames: list[Frame]


def play(world: TaskWorld, seed: int = SEED) -> Played:
    actor, seen = Watched(), Seen()
    result = rollout(world, actor, seed=seed, observers=[seen])
    return Played(world, result, np.array(actor.rows), seen.frames)


@pytest.fixture(scope="module")
def played() -> dict[str, Played]:
    """Episodes by task, each played when it is first asked for."""

    class Lazy(dict[str, Played]):
        def __missing__(self, name: str) -> Played:
            self[name] = play(TaskWorld(TASKS[name]))
            return self[name]

    return Lazy()


@pytest.mark.parametrize("name", TASKS)
def test_the_expert_solves_its_task_stage_by_stage(name: str, played: dict[str, Played]) -> None:
    result = played[name].result
    assert result.error == ""
    assert result.success
    assert result.progress == 3
    assert [one.name for one in result.reached] == list(TASKS[name].stage_names)
    assert sorted(one.time for one in result.reached) == [one.time for one in result.reached]
    assert 0.0 < result.max_contact_force < 200.0


@pytest.mark.parametrize("name", TASKS)
def test_the_experts_targets_pass_the_safety_chains_limits(name: str, played: dict[str, Played]) -> None:
    one = played[name]
    limits = one.world.robot.limits()
    columns = np.arange(len(limits.joint_names))
    motion = Motion(0, COMMAND_PERIOD_NS, one.rows, settled=0)
    judged = SlowingFilter(limits, columns).apply(motion, measured=one.rows[0])
    assert judged.finding is None
    assert np.all(one.rows >= limits.lower)
    assert np.all(one.rows <= limits.upper)


def test_every_task_has_an_expert() -> None:
    assert set(SCRIPTS) == set(TASKS)


def test_the_same_seed_gives_the_same_episode_to_the_bit(played: dict[str, Played]) -> None:
    first = played[BOWL.name]
    again = play(first.world)
    assert again.rows.tobytes() == first.rows.tobytes()
    assert again.result.traces.positions.tobytes() == first.result.traces.positions.tobytes()
    assert again.result.reached == first.result.reached
    assert again.result.max_contact_force == first.result.max_contact_force


def test_a_frames_action_is_the_command_of_the_next_frame(played: dict[str, Played]) -> None:
    frames = played[BOWL.name].frames
    assert [frame.index for frame in frames] == list(range(len(frames)))
    for frame, following in itertools.pairwise(frames):
        np.testing.assert_array_equal(frame.action, following.command)
        assert abs(frame.time - frame.index / 15.0) <= 0.001 + 1e-9
        assert frame.observation.stamp_ns == round(frame.time * NS_PER_S)
    assert frames[0].progress == 0
    assert np.ptp([frame.command for frame in frames], axis=0).max() > 0.3


def test_recorded_actions_played_back_as_chunks_solve_the_episode_again(played: dict[str, Played]) -> None:
    """What is recorded is what a policy has to answer: row 0 of a chunk is the command in force at its stamp."""
    one = played[BOWL.name]
    rows = np.array([frame.command for frame in one.frames])

    def policy(observation: Observation, instruction: str) -> ActionChunk:
        at = round(observation.stamp_ns / FRAME_NS)
        return ActionChunk(
            stamp_ns=observation.stamp_ns,
            generation=1,
            sequence=0,
            contract_hash="0" * 64,
            context_version=1,
            context_age_ns=0,
            phase_offset_rows=0,
            row_period_ns=FRAME_NS,
            joint_names=one.world.robot.joint_names,
            rows=rows[np.minimum(at + np.arange(16), len(rows) - 1)],
        )

    actor = ChunkActor(policy, one.world.robot, execute=8)
    assert rollout(one.world, actor, seed=SEED).success


def test_a_policy_that_does_nothing_runs_into_the_time_limit(played: dict[str, Played]) -> None:
    world = played[BOWL.name].world

    class Still:
        done = False

        def begin(self, episode: Episode) -> None:
            self.home = episode.world.positions()

        def act(self, episode: Episode, *, due: float) -> JointTargets:
            return JointTargets(self.home, np.zeros_like(self.home))

    result = rollout(world, Still(), seed=0, options=RolloutOptions(time_limit=0.5))
    assert not result.success
    assert result.progress == 0
    assert result.error == ""
    assert result.time == pytest.approx(0.5, abs=0.011)
    assert len(result.traces.times) == 8


def test_a_diverged_world_ends_the_episode_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log into the working directory
    world = TaskWorld(BOWL)
    world.model.opt.gravity[2] = -1e12
    result = rollout(world, Watched(), seed=0)
    assert not result.success
    assert "simulated world of franka diverged" in result.error
    assert "near t = 0.0" in result.error


def test_targets_that_are_not_finite_end_the_episode_with_their_time(played: dict[str, Played]) -> None:
    class Broken(Watched):
        def act(self, episode: Episode, *, due: float) -> JointTargets:
            targets = super().act(episode, due=due)
            return JointTargets(targets.positions * (np.nan if due > 0.3 else 1.0), targets.velocities)

    result = rollout(played[BOWL.name].world, Broken(), seed=0)
    assert not result.success
    assert result.error.startswith("at 0.30 s: targets of franka")


def test_a_camera_that_the_robot_has_not_is_refused_by_name(played: dict[str, Played]) -> None:
    options = RolloutOptions(cameras=("head",))
    with pytest.raises(ConfigError, match="no camera of this name: got 'head'; allowed: side, wrist"):
        rollout(played[BOWL.name].world, Watched(), seed=0, options=options)


@pytest.mark.camera
def test_observations_hold_the_pictures_asked_for(played: dict[str, Played]) -> None:
    seen = Seen()
    options = RolloutOptions(cameras=("wrist",), time_limit=0.2)
    rollout(played[BOWL.name].world, Watched(), seed=0, options=options, observers=[seen])
    picture = seen.frames[-1].observation.frames["wrist"]
    assert picture.rgb.shape == (240, 424, 3)
    assert picture.stamp_ns == seen.frames[-1].observation.stamp_ns
    assert picture.rgb.std() > 10
