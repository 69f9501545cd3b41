# SPDX-License-Identifier: Apache-2.0
"""Closed-loop episodes in one process: what is scored, what is at fault, and that a repetition says the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from wam.core.chunk import ActionChunk
from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.core.contract import CameraContract
from wam.core.errors import ContractMismatch
from wam.core.fakes import FakeExecutor, FakePlanner, fake_contract
from wam.core.observation import RobotState
from wam.core.policy import LoadedPolicy, RoutedContext
from wam.core.transport.numpy_codec import NumpyCodec
from wam.core.verdict import Ladder
from wam.devices.twin import JointFeedback
from wam.evaluation.closed_loop.options import EvalOptions
from wam.evaluation.closed_loop.page import build_evaluation_report
from wam.evaluation.closed_loop.run import evaluate_fast
from wam.evaluation.closed_loop.table import compute_evaluation
from wam.evaluation.replay.engine import ReplaySettings
from wam.robots.description import RobotDescription
from wam.runtime.policy import PolicyRequest, load_fake
from wam.sim.actors import ExpertActor
from wam.sim.experts.registry import make_expert
from wam.sim.rollout import COMMAND_PERIOD_NS, Frame, RolloutOptions, rollout
from wam.sim.tasks.registry import find_task
from wam.sim.tasks.task import Setting
from wam.sim.tasks.world import TaskWorld

pytestmark = [pytest.mark.sim, pytest.mark.camera]

TASK = find_task("franka_box_to_bowl")
SCHEDULE = ReplaySettings(
    planner_latency_ns=100 * NS_PER_MS, executor_latency_ns=50 * NS_PER_MS, planner_period_ns=250 * NS_PER_MS
)
SEED = 3


def options(policy: str, *, time_limit: float | None = None) -> EvalOptions:
    return EvalOptions(TASK, Setting.SEEN, policy, (SEED,), SCHEDULE, time_limit)


class Commands:
    """Keeps what an expert commanded."""

    def __init__(self) -> None:
        self.rows: list[npt.NDArray[np.float64]] = []

    def on_tick(
        self, time_ns: int, feedback: Mapping[str, JointFeedback], command: npt.NDArray[np.float64]
    ) -> None:
        self.rows.append(command)

    def on_frame(self, frame: Frame) -> None:
        pass


class Replayer(FakeExecutor):
    """Answers with what an expert commanded at the times of the rows."""

    def __init__(self, contract, commands: npt.NDArray[np.float64]) -> None:  # type: ignore[no-untyped-def]
        super().__init__(contract)
        self._commands = commands

    def act(self, routed: RoutedContext, *, proprio: RobotState) -> ActionChunk:  # type: ignore[type-arg]
        chunk = super().act(routed, proprio=proprio)
        # The expert's time begins when the policy is first asked.
        start_ns = self._start_ns or 0
        times = chunk.stamp_ns - start_ns + np.arange(len(chunk.rows)) * chunk.row_period_ns
        at = np.arange(len(self._commands)) * COMMAND_PERIOD_NS
        rows = np.stack([np.interp(times, at, column) for column in self._commands.T], axis=1)
        return replace(chunk, rows=rows)


def replayer(robot: RobotDescription, commands: npt.NDArray[np.float64]) -> LoadedPolicy:
    camera = robot.cameras[0]
    contract = fake_contract(
        joint_names=robot.joint_names,
        cameras=(CameraContract(camera.name, camera.height, camera.width),),
        control_period_ns=NS_PER_S // 30,
        chunk_rows=30,
    )
    return LoadedPolicy(contract, FakePlanner(contract), Replayer(contract, commands), NumpyCodec())


@pytest.mark.slow
def test_what_an_expert_commanded_succeeds_as_a_policy(small_franka: RobotDescription) -> None:
    """Latencies, splicing, safety and lead all lie between: any of them off by a row, and the grasp would miss."""
    world = TaskWorld(TASK, robot=small_franka)
    commands = Commands()
    result = rollout(
        world,
        ExpertActor(lambda episode: make_expert(episode.world)),
        seed=SEED,
        options=RolloutOptions(frame_rate=5.0),
        observers=(commands,),
    )
    assert result.success, result.error
    policy = replayer(small_franka, np.stack(commands.rows))
    run = evaluate_fast(options("replayer"), policy, robot=small_franka)
    (episode,) = run.episodes
    assert episode.success, (episode, episode.safety)
    assert [name for name, _ in episode.stages] == ["grasped", "carried", "placed"]
    assert episode.worst_rung <= Ladder.LATE
    assert episode.max_contact_force > 1.0
    (video,) = run.videos.values()
    assert b"ftyp" in video[:16]


def test_a_repetition_writes_the_same_bytes(tmp_path: Path, small_franka: RobotDescription) -> None:
    for name in ("first", "second"):
        policy = load_fake(PolicyRequest("fake", planner=True, executor=True), robot=small_franka)
        run = evaluate_fast(options("fake", time_limit=1.5), policy, robot=small_franka)
        build_evaluation_report(run, compute_evaluation(run), tmp_path / name)
    for file in ("summary.json", "events.jsonl"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
    (episode,) = run.episodes
    assert (episode.success, episode.score, episode.error) == (False, 0, "")
    assert episode.time == pytest.approx(1.5, abs=0.011)
    assert len(episode.times.chunk_ms) >= 8
    # Latencies count on simulated time: while a plan takes 100 ms, a newer picture has come.
    ages = episode.times.context_age_ms
    assert 60.0 <= ages.min() <= ages.max() <= 400.0


def test_a_policy_that_answers_nonsense_ends_its_episode_as_an_error(small_franka: RobotDescription) -> None:
    nonsense = np.full((10, 8), np.nan)
    run = evaluate_fast(
        replace(options("nonsense", time_limit=1.5), videos=False),
        replayer(small_franka, nonsense),
        robot=small_franka,
    )
    (episode,) = run.episodes
    assert "holds a non-finite target for fr3_joint1 in row 0" in episode.error
    assert episode.error.startswith("at 0.")
    assert not episode.success


def test_a_policy_that_jumps_is_held_and_told(small_franka: RobotDescription) -> None:
    away = np.array([joint.home for joint in small_franka.joints]) + np.array([1.5, *np.zeros(7)])
    run = evaluate_fast(
        replace(options("jump", time_limit=1.0), videos=False),
        replayer(small_franka, np.tile(away, (400, 1))),
        robot=small_franka,
    )
    (episode,) = run.episodes
    assert "jump" in {event.code for event in episode.safety}
    assert episode.error == ""


def test_a_policy_of_another_robot_is_refused(small_franka: RobotDescription) -> None:
    contract = fake_contract(
        joint_names=("left_joint1",),
        cameras=(CameraContract("side", 48, 64),),
        control_period_ns=NS_PER_S // 30,
    )
    policy = LoadedPolicy(contract, FakePlanner(contract), FakeExecutor(contract), NumpyCodec())
    with pytest.raises(ContractMismatch, match="left_joint1, which robot franka does not have"):
        evaluate_fast(options("other"), policy, robot=small_franka)
