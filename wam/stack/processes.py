# SPDX-License-Identifier: Apache-2.0
"""One node process: started with parameters, logged to a file, and always ended."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wam.ros.command_line import ParameterValue, write_parameters

_PR_SET_PDEATHSIG = 1
TAIL_BYTES = 64 * 1024
"""Most of a log that is read for its last lines."""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One process to start.

    Attributes:
        name: short name in logs, tables and messages.
        module: module run with `python -m`.
        parameters: node name -> parameter name -> value.
        namespace: namespace of every node in it; "" for none.
        remaps: topic -> new topic.
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
        log_dir: where `NAME.log` (appended to when a node is started again) and `NAME.parameters.yaml` are written.
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
        """Send it a signal, e.g. SIGSTOP to freeze it."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """End it at once (SIGKILL) and wait for it."""
        self._popen.kill()
        self._popen.wait()

    def stop(self, *, interrupt: float = 8.0, terminate: float = 3.0) -> int:
        """End it: SIGINT, then SIGTERM, then SIGKILL.

        Args:
            interrupt: time to end after SIGINT [s].
            terminate: time to end after SIGTERM [s].

        Returns:
            The exit code.
        """
        for number, timeout in ((signal.SIGINT, interrupt), (signal.SIGTERM, terminate)):
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
        """Return the last lines of the log, at most 64 KiB of it."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])


def _die_with_parent() -> None:
    # Without it a demo that is killed with SIGKILL would leave its nodes running.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
