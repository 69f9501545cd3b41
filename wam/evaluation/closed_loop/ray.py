# SPDX-License-Identifier: Apache-2.0
"""Closed-loop episodes on a Ray cluster, which is optional: one task per seed; a worker keeps its player."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from wam.core.errors import WamError
from wam.evaluation.closed_loop.player import EpisodePlayer, Play, PlayerJob, Stopped, never
from wam.evaluation.closed_loop.pool import POLL_S, failed_play
from wam.evaluation.replay.ray import connected, resources


def play_on_ray(
    job: PlayerJob, seeds: Sequence[int], *, address: str, stopped: Stopped = never
) -> Iterator[Play]:
    """Give the episodes of all seeds as the cluster finishes them; running ones are dropped when it is stopped.

    Args:
        job: how to make a player; policies and robot files have the same paths on every machine.
        seeds: of the episodes.
        address: of the cluster, see `connected`.
        stopped: asked several times a second whether to end.

    Raises:
        WamError: the cluster cannot be reached, or a player cannot be made.
    """
    device, threads = ("cpu", 1) if job.request is None else (job.request.device, job.request.threads)
    with connected(address) as ray:
        remote = ray.remote(**resources(device, threads))(play_elsewhere)
        running = {remote.remote(job, seed, os.getcwd()): seed for seed in seeds}
        while running and not stopped():
            finished, _ = ray.wait(list(running), num_returns=1, timeout=POLL_S)
            for ref in finished:
                seed = running.pop(ref)
                try:
                    answer = ray.get(ref)
                except ray.exceptions.RayError as error:
                    answer = failed_play(seed, f"Ray: {str(error).strip().splitlines()[0]}")
                if isinstance(answer, WamError):
                    raise answer
                yield answer


_open: tuple[PlayerJob, EpisodePlayer] | None = None
"""In a worker: the player of the last task; loading a policy takes longer than a short episode."""


def play_elsewhere(job: PlayerJob, seed: int, folder: str) -> Play | WamError | None:
    """Play a seed on a worker; `folder` is the driver's working directory, where relative paths begin."""
    global _open
    try:
        os.chdir(folder)
    except OSError as error:
        return failed_play(seed, f"a machine of the cluster has no {folder} ({error.strerror})")
    try:
        if _open is None or _open[0] != job:
            if _open is not None:
                _open[1].close()
            _open = (job, job.open())
        return _open[1].play(seed)
    except WamError as error:
        return error
