# SPDX-License-Identifier: Apache-2.0
"""Closed-loop episodes on simulated time, summed up: played in this process, in several, or anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from wam.core.policy import LoadedPolicy
from wam.devices.loader import load_robot
from wam.evaluation.closed_loop.filming import VideoChoice
from wam.evaluation.closed_loop.options import FAST, EvalOptions, settings_of, training_warnings
from wam.evaluation.closed_loop.player import EpisodePlayer, Play, Stopped, never
from wam.evaluation.closed_loop.scores import EpisodeRecord, Evaluation
from wam.report.machine import machine_info
from wam.robots.description import RobotDescription

Done = Callable[[EpisodeRecord], None]


def evaluate_fast(
    options: EvalOptions,
    policy: LoadedPolicy | None,
    *,
    robot: RobotDescription | None = None,
    plays: Iterator[Play] | None = None,
    done: Done = lambda episode: None,
    stopped: Stopped = never,
) -> Evaluation:
    """Run every episode as fast as the machine can; the result does not depend on where they are played.

    Args:
        options: what to evaluate.
        policy: both halves, or its contract alone where `plays` is given; None lets the task's expert play.
        robot: instead of the task's own.
        plays: episodes that are played elsewhere, in any order; None plays them here.
        done: called after every episode.
        stopped: asked at every frame whether to end; episodes that have ended by then are kept.

    Raises:
        ContractMismatch: policy and robot, or policy and task, do not fit.
        ConfigError: the task cannot be set so, or has no expert.
        MissingDependency: pictures are needed and cannot be rendered here.
    """
    robot = robot or load_robot(options.task.robot)
    episodes = []
    began = time.monotonic()
    videos = VideoChoice()
    backends: dict[str, str] = {}
    for play in plays if plays is not None else play_here(options, policy, robot=robot, stopped=stopped):
        videos.offer(play.episode, play.video)
        backends.update(play.backends)
        episodes.append(play.episode)
        done(play.episode)
    order = {seed: place for place, seed in enumerate(options.seeds)}
    return Evaluation(
        task=options.task.name,
        title=options.task.title,
        stage_names=options.task.stage_names,
        setting=options.setting.value,
        robot=robot.name,
        policy=options.policy,
        contract_hash="" if policy is None else policy.contract.contract_hash,
        mode=FAST,
        episodes=tuple(sorted(episodes, key=lambda one: order[one.seed])),
        videos=videos.chosen(),
        warnings=(
            *not_played(options, len(episodes)),
            *(training_warnings(options, policy.contract) if policy is not None else ()),
        ),
        settings=settings_of(options, mode=FAST),
        backends=backends,
        machine=machine_info(),
        wall=time.monotonic() - began,
    )


def play_here(
    options: EvalOptions, policy: LoadedPolicy | None, *, robot: RobotDescription, stopped: Stopped = never
) -> Iterator[Play]:
    """Give the episodes of all seeds, played in this process one after another.

    Raises:
        WamError: see `EpisodePlayer`.
    """
    with EpisodePlayer(options, policy, robot=robot, stopped=stopped) as player:
        for seed in options.seeds:
            play = player.play(seed)
            if play is None:
                return
            yield play


def not_played(options: EvalOptions, played: int) -> tuple[str, ...]:
    """Return the warning that says how many episodes are missing."""
    count = len(options.seeds)
    return (f"{count - played} of {count} episodes were not played",) if played < count else ()
