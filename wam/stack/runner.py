# SPDX-License-Identifier: Apache-2.0
"""Runs node processes: started in order, watched while something waits for them, stopped in reverse order.

    start(spec, ...) -> wait_for("the first chunk", condition) -> ... -> stop(), also after an error or Ctrl-C

Every wait has a named time limit, and ends early with the end of the log when a process dies.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from wam.core.errors import WamError
from wam.stack.processes import NodeProcess, NodeSpec

POLL_S = 0.1
"""Processes are checked this often while something waits for messages [s]."""


class StackFailed(WamError):
    """A node could not be started, stayed silent too long, or ended by itself; the text holds the end of its log."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long the runner waits.

    Attributes:
        ready: for each step of the start, e.g. the first action chunk [s].
        answer: for the answer of a service [s].
        interrupt: for a process to end after SIGINT [s].
        terminate: for a process to end after SIGTERM, before SIGKILL [s].
    """

    ready: float = 120.0
    answer: float = 20.0
    interrupt: float = 8.0
    terminate: float = 3.0


class Messages(Protocol):
    """What wakes a wait: the listener, whose messages make most conditions true."""

    def wait_for(self, condition: Callable[[], bool], *, timeout: float) -> bool:
        """Return whether `condition` became true within `timeout` [s]; it is checked at the end and on changes."""


class StackRunner:
    """Node processes that are stopped in reverse order when the `with` block ends, however it ends.

    Args:
        log_dir: directory of the log files.
        environment: of every process; None takes `os.environ`.
        limits: how long to wait.
        messages: wakes the waits; None checks conditions every 0.1 s.
        on_wait: called a few times a second with what is being waited for.
    """

    def __init__(
        self,
        *,
        log_dir: Path,
        environment: Mapping[str, str] | None = None,
        limits: TimeLimits | None = None,
        messages: Messages | None = None,
        on_wait: Callable[[str], None] = lambda phase: None,
    ) -> None:
        self.limits = limits or TimeLimits()
        self.processes: dict[str, NodeProcess] = {}
        self._log_dir = log_dir
        self._environment = dict(os.environ if environment is None else environment)
        self._messages: Messages = messages or _Polling()
        self._on_wait = on_wait

    def __enter__(self) -> StackRunner:
        """Return the runner."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop every process."""
        self.stop()

    def start(self, *specs: NodeSpec) -> NodeProcess:
        """Start processes in this order, each in place of a dead one of the same name; return the last.

        Raises:
            ValueError: a process of that name is running already.
        """
        for spec in specs:
            running = self.processes.get(spec.name)
            if running is not None and running.exit_code() is None:
                raise ValueError(f"{spec.name} is running already")
            # The newest process stands last, so that it is stopped first.
            self.processes.pop(spec.name, None)
            self.processes[spec.name] = NodeProcess(
                spec, log_dir=self._log_dir, environment=self._environment
            )
        return self.processes[specs[-1].name]

    def dead(self) -> Sequence[NodeProcess]:
        """Return the processes that have ended by themselves."""
        return [process for process in self.processes.values() if process.exit_code() is not None]

    def alive(self) -> dict[str, int | None]:
        """Return process name -> exit code, None while it runs."""
        return {name: process.exit_code() for name, process in self.processes.items()}

    def require_alive(self, phase: str = "") -> None:
        """Require that no process has ended.

        Args:
            phase: what was being done, for the text.

        Raises:
            StackFailed: one has; the text holds the end of its log.
        """
        for process in self.dead():
            during = f" while {phase}" if phase else ""
            raise StackFailed(
                f"{process.spec.name} ended with code {process.exit_code()}{during}; "
                f"end of {process.log}:\n{process.log_tail()}"
            )

    def wait_for(self, what: str, condition: Callable[[], bool], *, timeout: float | None = None) -> None:
        """Wait until `condition` is true.

        Args:
            what: completes "waiting for".
            condition: checked after every message and every 0.1 s.
            timeout: time limit [s]; None takes `limits.ready`.

        Raises:
            StackFailed: it was not true in time, or a process ended.
        """
        timeout = self.limits.ready if timeout is None else timeout
        phase = f"waiting for {what}"
        deadline = time.monotonic() + timeout
        while not self._messages.wait_for(condition, timeout=POLL_S):
            self._on_wait(phase)
            self.require_alive(phase)
            if time.monotonic() > deadline:
                raise StackFailed(
                    f"gave up {phase}", value=f"{timeout:g} s", where=f"the logs in {self._log_dir}"
                )

    def stop(self) -> dict[str, int]:
        """Stop every process, the last one started first; return name -> exit code.

        Ctrl-C during the stop kills the processes that are left.
        """
        left = list(self.processes.values())
        codes: dict[str, int] = {}
        try:
            while left:
                process = left[-1]
                codes[process.spec.name] = process.stop(
                    interrupt=self.limits.interrupt, terminate=self.limits.terminate
                )
                left.pop()
        finally:
            for process in reversed(left):
                process.kill()
        return codes


class _Polling:
    """Checks a condition until it is true; for runs without a listener."""

    def wait_for(self, condition: Callable[[], bool], *, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True
