# SPDX-License-Identifier: Apache-2.0
"""One worker thread per node: it runs the node's cycle, so that callbacks only store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from wam.core.thread_names import show_thread_name


class Worker:
    """Runs `step` once per period, or as soon as it is woken, until it is stopped.

    Deadlines are absolute on the monotonic clock: a late step does not shift the later ones, and a missed
    deadline is skipped, never made up for by a burst.

    Args:
        name: name of the thread.
        step: called without arguments in the worker thread.
        period: time between two steps [s]; None runs only when woken.
        on_error: called in the worker thread with an exception of `step`; the worker ends after it.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], None],
        *,
        period: float | None,
        on_error: Callable[[Exception], None],
    ) -> None:
        self._step = step
        self._period = period
        self._on_error = on_error
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Make the next step happen at once; called from any thread."""
        self._wake.set()

    def stop(self, *, timeout: float) -> bool:
        """Ask the thread to end after its step and wait for at most `timeout` [s].

        Returns:
            Whether it has ended.
        """
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        show_thread_name()
        deadline = time.monotonic()
        while True:
            if self._period is None:
                self._wake.wait()
            else:
                now = time.monotonic()
                deadline += self._period
                if deadline < now:
                    deadline = now
                self._wake.wait(deadline - now)
            if self._stopping.is_set():
                return
            if self._wake.is_set():
                deadline = time.monotonic()
                self._wake.clear()
            try:
                self._step()
            except Exception as error:  # handed to the node, which reports it and stops acting
                self._on_error(error)
                return
