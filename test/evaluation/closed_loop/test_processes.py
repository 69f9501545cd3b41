# SPDX-License-Identifier: Apache-2.0
"""Where an episode is played, and what was played before it, changes nothing of it."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wam.core.clock import NS_PER_MS
from wam.core.errors import WamError
from wam.core.observation import Rgb
from wam.evaluation.closed_loop.options import EvalOptions
from wam.evaluation.closed_loop.page import build_evaluation_report
from wam.evaluation.closed_loop.player import EpisodePlayer, PlayerJob
from wam.evaluation.closed_loop.pool import play_in_processes
from wam.evaluation.closed_loop.run import evaluate_fast
from wam.evaluation.closed_loop.table import compute_evaluation
from wam.evaluation.replay.engine import ReplaySettings
from wam.policies.loading import load_policy
from wam.robots.description import RobotDescription
from wam.runtime.policy import PolicyRequest
from wam.sim.quality import Quality
from wam.sim.tasks.registry import find_task
from wam.sim.tasks.task import Setting

pytestmark = [pytest.mark.sim, pytest.mark.camera]

TASK = find_task("franka_box_to_bowl")
SCHEDULE = ReplaySettings(
    planner_latency_ns=100 * NS_PER_MS, executor_latency_ns=50 * NS_PER_MS, planner_period_ns=250 * NS_PER_MS
)
SEEDS = (3, 4, 5)


def options(policy: str, *, time_limit: float = 0.6, seeds: tuple[int, ...] = SEEDS) -> EvalOptions:
    return EvalOptions(
        TASK, Setting.SEEN, policy, seeds, SCHEDULE, time_limit, videos=False, quality=Quality.FAST
    )


def request(policy: str, **more: Any) -> PolicyRequest:
    return PolicyRequest(policy, planner=True, executor=True, **more)


@pytest.mark.parametrize("policy", ["fake", "aha_wam/random", "dust/random"])
def test_an_episode_is_the_same_whatever_was_played_before_it(
    policy: str, small_franka: RobotDescription
) -> None:
    loaded = load_policy(request(policy), robot=small_franka)
    with EpisodePlayer(options(policy), loaded, robot=small_franka) as player:
        first, _, later = (play.episode for seed in (4, 3, 4) if (play := player.play(seed)))
    for one in (first, later):
        assert one.times.chunk_ms.size > 3
    assert _without_times(first) == _without_times(later)


def test_every_episode_is_filmed_from_its_beginning(small_franka: RobotDescription) -> None:
    """The second one was not filmed until it had lasted longer than the first."""
    loaded = load_policy(request("fake"), robot=small_franka)
    pictures: list[Rgb] = []
    counts: list[int] = []
    with EpisodePlayer(options("fake"), loaded, robot=small_franka) as player:
        player.film(pictures.append, height=24, width=32, rate=5.0)
        for seed in SEEDS:
            player.play(seed)
            counts.append(len(pictures))
            pictures.clear()
    assert counts == [4, 4, 4]  # at 0, 0.2, 0.4 and 0.6 s


def test_the_noise_of_a_policy_differs_from_seed_to_seed(small_franka: RobotDescription) -> None:
    """Every episode had the generations 1, 2, ... and so the same noise: one draw for a whole evaluation."""
    from wam.evaluation.closed_loop.policy_actor import PolicyActor

    loaded = load_policy(request("fake"), robot=small_franka)
    generations = set()
    for seed in SEEDS:
        with EpisodePlayer(options("fake", time_limit=0.3), loaded, robot=small_franka) as player:
            player.play(seed)
            actor = player._actor
            assert isinstance(actor, PolicyActor)
            assert actor._engine is not None
            generations.add(actor._engine.planner.instruction.generation)
    assert len(generations) == len(SEEDS)


@pytest.mark.slow
def test_two_processes_write_the_bytes_that_one_writes(
    tmp_path: Path, small_franka: RobotDescription
) -> None:
    what = options("fake")
    loaded = load_policy(request("fake"), robot=small_franka)
    job = PlayerJob(what, request("fake"), small_franka)
    plays = sorted(play_in_processes(job, SEEDS, processes=2), key=lambda play: -play.episode.seed)
    for name, given in (("one", None), ("two", iter(plays))):
        run = evaluate_fast(what, loaded, robot=small_franka, plays=given)
        build_evaluation_report(run, compute_evaluation(run), tmp_path / name)
    for file in ("summary.json", "events.jsonl"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    summary = json.loads((tmp_path / "one" / "summary.json").read_text(encoding="utf-8"))
    assert [one["seed"] for one in summary["episodes"]] == list(SEEDS)
    assert summary["held_s"]["no_chunk_yet"] > 0.0
    assert 0.0 < summary["metrics"]["held_share"] < 1.0


@pytest.mark.slow
def test_a_killed_process_fails_its_episode_alone_and_a_refusal_is_raised(
    small_franka: RobotDescription,
) -> None:
    job = PlayerJob(options("fake", time_limit=30.0), request("fake"), small_franka)
    (lost,) = play_in_processes(job, SEEDS[:1], processes=1, stopped=_kill_children)
    assert lost.episode.seed == SEEDS[0]
    assert "ended with code -9" in lost.episode.error
    refused = replace(job, request=request("fake", sampler={"q": 2}))
    with pytest.raises(WamError, match="sampler"):
        list(play_in_processes(refused, SEEDS, processes=1))


def _kill_children() -> bool:
    for child in multiprocessing.active_children():
        os.kill(child.pid or 0, signal.SIGKILL)
    return False


def test_a_stop_ends_the_running_episode_and_keeps_those_before_it(small_franka: RobotDescription) -> None:
    played: list[int] = []
    run = evaluate_fast(
        options("expert"),
        None,
        robot=small_franka,
        done=lambda episode: played.append(episode.seed),
        stopped=lambda: len(played) == 2,
    )
    assert [one.seed for one in run.episodes] == [3, 4]
    assert run.warnings == ("1 of 3 episodes were not played",)
    assert compute_evaluation(run).scores.metrics["episodes"] == 2.0


def test_an_evaluation_that_is_stopped_at_once_still_has_a_report(
    tmp_path: Path, small_franka: RobotDescription
) -> None:
    run = evaluate_fast(options("expert"), None, robot=small_franka, stopped=lambda: True)
    build_evaluation_report(run, compute_evaluation(run), tmp_path / "report")
    summary = json.loads((tmp_path / "report" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["episodes"], summary["metrics"]["success_rate"]) == ([], None)


def _without_times(episode: Any) -> tuple[Any, ...]:
    return (
        episode.seed,
        episode.score,
        episode.time,
        episode.max_contact_force,
        dict(episode.held),
        # NaN is not equal to itself: the text is compared.
        [str(event) for event in episode.safety],
        episode.times.context_age_ms.tolist(),
    )
