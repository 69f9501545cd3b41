# SPDX-License-Identifier: Apache-2.0
"""Processes that work for this one, and end with it: also where it is killed, and no `finally` runs.

Every worker holds one end of a pipe whose other end only the parent has. It is closed by the kernel when the parent
ends in whatever way, and by the pool when the parent leaves its block because of an error, Ctrl-C included. A worker
that sees that ends at once, in the middle of what it computes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any

GAVE_UP = 1
"""Exit code of a worker that has ended because its parent did."""


@contextmanager
def worker_pool(
    processes: int, *, begin: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of spawned processes that end with the block, or with this process.

    Spawned, not forked: torch, EGL and OpenCV hold threads and contexts that a fork would lose. Where the block ends by
    an exception what is being computed is dropped.

    Args:
        processes: how many at a time.
        begin: called first in each of them.
        arguments: of `begin`.
    """
    context = multiprocessing.get_context("spawn")
    theirs, mine = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        processes, mp_context=context, initializer=_begin, initargs=(theirs, begin, arguments)
    )
    try:
        yield pool
    except BaseException:
        mine.close()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        mine.close()
        theirs.close()


def end_with(line: Connection) -> None:
    """In a worker: end this process as soon as nobody holds the other end of `line`, on which nothing is sent."""
    # Ctrl-C reaches the parent, which ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        wait([line])
        os._exit(GAVE_UP)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def end_with_parent() -> None:
    """In a worker: end this process as soon as its parent has ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a worker"

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(GAVE_UP)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _begin(line: Connection, begin: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    end_with(line)
    if begin is not None:
        begin(*arguments)
