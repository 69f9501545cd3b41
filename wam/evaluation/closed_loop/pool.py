# SPDX-License-Identifier: Apache-2.0
"""Episodes in several processes: each loads the policy once and asks for seed after seed."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from wam.core.errors import WamError
from wam.core.worker_pool import end_with_parent
from wam.evaluation.closed_loop.player import Play, PlayerJob, Stopped, never
from wam.evaluation.closed_loop.scores import EpisodeRecord

POLL_S = 0.2
"""Time between two looks at whether to stop [s]."""

END_S = 2.0
"""Time that a process has to end after SIGTERM, before SIGKILL [s]."""


def play_in_processes(
    job: PlayerJob, seeds: Sequence[int], *, processes: int, stopped: Stopped = never
) -> Iterator[Play]:
    """Give the episodes of all seeds as they finish; running ones are dropped when it is stopped or closed.

    A process that dies fails the episode that it was playing; the others go on with the rest.

    Args:
        job: how to make a player.
        seeds: of the episodes.
        processes: how many at a time.
        stopped: asked several times a second whether to end.

    Raises:
        WamError: a process could not make its player.
    """
    # Spawned, not forked: torch, EGL and OpenCV hold threads and contexts that a fork would lose.
    context = multiprocessing.get_context("spawn")
    left = list(reversed(seeds))
    workers: dict[Connection, tuple[SpawnProcess, int]] = {}
    try:
        for _ in range(min(processes, len(seeds))):
            mine, theirs = context.Pipe()
            process = context.Process(target=_work, args=(job, theirs), daemon=True)
            process.start()
            theirs.close()  # so that its end is seen here
            seed = left.pop()
            mine.send(seed)
            workers[mine] = (process, seed)
        while workers and not stopped():
            for line in wait(list(workers), timeout=POLL_S):
                assert isinstance(line, Connection)
                process, seed = workers.pop(line)
                try:
                    answer = line.recv()
                except (EOFError, OSError):
                    process.join(END_S)
                    yield failed_play(
                        seed,
                        f"the process that played it ended with code {process.exitcode} (out of memory?): "
                        "use fewer with --processes",
                    )
                    continue
                if isinstance(answer, WamError):
                    raise answer
                if left:
                    seed = left.pop()
                    line.send(seed)
                    workers[line] = (process, seed)
                else:
                    line.close()
                yield answer
    finally:
        for process, _ in workers.values():
            process.terminate()
        for process, _ in workers.values():
            process.join(END_S)
            if process.is_alive():
                process.kill()


def _work(job: PlayerJob, line: Connection) -> None:
    """Play what `line` asks for until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the workers
    end_with_parent()
    try:
        with job.open() as player:
            while True:
                try:
                    seed = line.recv()
                except EOFError:
                    return
                line.send(player.play(seed))
    except WamError as error:
        line.send(error)
    except (BrokenPipeError, ConnectionResetError):
        return  # the parent has ended


def failed_play(seed: int, error: str) -> Play:
    """Return what stands for an episode that was lost."""
    return Play(EpisodeRecord(seed, "", "", False, 0, (), 0.0, 0.0, error))
