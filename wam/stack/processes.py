# SPDX-License-Identifier: Apache-2.0
"""Node processes: started with parameters, watched, and ended for certain."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from wam.ros.command_line import ParameterValue, write_parameters

_PR_SET_PDEATHSIG = 1
INTERRUPT_TIMEOUT_S = 8.0
TERMINATE_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One process to start.

    Attributes:
        name: short name for people, logs and tables.
        module: module run with `python -m`.
        parameters: node name -> parameter name -> value.
        namespace: namespace of every node in it; "" for none.
        remaps: topic -> other topic.
    """

    name: str
    module: str
    parameters: Mapping[str, Mapping[str, ParameterValue]]
    namespace: str = ""
    remaps: Mapping[str, str] = field(default_factory=dict)

    def command(self, parameter_file: Path) -> list[str]:
        """Return the command line; `parameter_file` holds `parameters`."""
        command = [sys.executable, "-m", self.module, "--ros-args"]
        if self.namespace:
            command += ["-r", f"__ns:=/{self.namespace.strip('/')}"]
        for topic, other in self.remaps.items():
            command += ["-r", f"{topic}:={other}"]
        return [*command, "--params-file", str(parameter_file)]


class NodeProcess:
    """A running process with its log file.

    Args:
        spec: what to start.
        log_dir: where `NAME.log` (appended to, when a node is started again) and `NAME.parameters.yaml` are written.
        environment: of the process.
    """

    def __init__(self, spec: NodeSpec, *, log_dir: Path, environment: Mapping[str, str]) -> None:
        self.spec = spec
        self.log = log_dir / f"{spec.name}.log"
        log_dir.mkdir(parents=True, exist_ok=True)
        parameters = write_parameters(log_dir / f"{spec.name}.parameters.yaml", spec.parameters)
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                spec.command(parameters),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                # Ctrl-C reaches the parent alone, which then ends the nodes in order.
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._popen.pid

    def exit_code(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs."""
        return self._popen.poll()

    def signal(self, number: int) -> None:
        """Send it a signal, e.g. SIGSTOP to freeze it as a held GIL does."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """End it at once (SIGKILL) and wait for it."""
        self._popen.kill()
        self._popen.wait()

    def stop(self) -> int:
        """End it: SIGINT, then SIGTERM, then SIGKILL, each with a bounded wait.

        Returns:
            The exit code.
        """
        for number, timeout in ((signal.SIGINT, INTERRUPT_TIMEOUT_S), (signal.SIGTERM, TERMINATE_TIMEOUT_S)):
            if self._popen.poll() is not None:
                break
            self._popen.send_signal(number)
            try:
                self._popen.wait(timeout)
            except subprocess.TimeoutExpired:
                continue
        if self._popen.poll() is None:
            self.kill()
        return int(self._popen.wait())

    def log_tail(self, lines: int = 12) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class ProcessGroup:
    """Processes that are stopped in reverse order when the `with` block ends, however it ends.

    Args:
        log_dir: directory of the log files.
        environment: of every process; None takes `os.environ`.
    """

    def __init__(self, *, log_dir: Path, environment: Mapping[str, str] | None = None) -> None:
        self._log_dir = log_dir
        self._environment = dict(os.environ if environment is None else environment)
        self.processes: dict[str, NodeProcess] = {}

    def __enter__(self) -> ProcessGroup:
        """Return the group."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop every process."""
        self.stop()

    def start(self, spec: NodeSpec) -> NodeProcess:
        """Start a process, in place of a dead one of the same name."""
        running = self.processes.get(spec.name)
        if running is not None and running.exit_code() is None:
            raise ValueError(f"{spec.name} is running already")
        process = NodeProcess(spec, log_dir=self._log_dir, environment=self._environment)
        self.processes[spec.name] = process
        return process

    def dead(self) -> Sequence[NodeProcess]:
        """Return the processes that have ended by themselves."""
        return [process for process in self.processes.values() if process.exit_code() is not None]

    def stop(self) -> dict[str, int]:
        """Stop every process, the last one started first; return name -> exit code."""
        return {process.spec.name: process.stop() for process in reversed(list(self.processes.values()))}


def wait_until_gone(pid: int, *, timeout: float) -> bool:
    """Return whether the process `pid` has gone within `timeout` [s]."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def _die_with_parent() -> None:
    # Without it a demo that is killed with SIGKILL would leave its nodes running.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
