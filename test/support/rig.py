# SPDX-License-Identifier: Apache-2.0
"""A rig of real processes over real DDS: simulated robot, safety, planner and executor, each of which can be killed.

In lock-step (the default) simulated time waits for all of them, so that what a test sees does not depend on how fast
the machine is. A rig without it runs on wall time, or on the clock of the simulated robot.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from domains import turns
from waiting import machine_speed

from wam.core.verdict import Ladder
from wam.devices.loader import load_robot
from wam.stack.lock_step import LockStep
from wam.stack.node_specs import (
    StackOptions,
    in_lock_step,
    node_names,
    policy_processes,
    safety,
    sim,
)
from wam.stack.processes import NodeProcess, NodeSpec
from wam.stack.recorder import Recorder
from wam.stack.runner import StackFailed, StackRunner

_domains = turns()

SIM_TIMEOUT_S = 20.0
"""How long something may take in simulated time: ten times the longest deadline of the suite (a context, 2 s)."""

WALL_TIMEOUT_S = 90.0
"""How long something may take in wall time, where processes start or are discovered: a node starts in 4 s here."""

SETTLED_CHUNKS = 3
"""Chunks in NOMINAL without an event after which a stack counts as settled: what came before is spent by then."""

STACK_LINES = 120
"""Most lines of a log that are shown where it ends with the stacks of a process that hangs."""

NEAR_HOME = 0.03
"""Distance from home that counts as passing it [rad]."""


def with_fast_images(spec: NodeSpec) -> NodeSpec:
    """Return a simulated robot that renders in a fifth of the time; what images show is looked at in test/sim."""
    parameters = {name: {**values, "camera_quality": "fast"} for name, values in spec.parameters.items()}
    return replace(spec, parameters=parameters)


class Rig:
    """The processes of a run, the recorder that listens to them, and waits that say what did not happen.

    Args:
        log_dir: where the processes write their logs.
        environment: of the processes.
        robot: name of the robot file.
        lock_step: time is simulated and waits for the nodes; otherwise it passes by itself.
    """

    def __init__(
        self, log_dir: Path, environment: dict[str, str], *, robot: str = "piper", lock_step: bool = True
    ) -> None:
        self.group = StackRunner(log_dir=log_dir, environment=environment)
        self.options = StackOptions(
            robot=robot, policy="fake", composed=False, plan_period=0.2, chunk_period=0.05
        )
        self.recorder = Recorder(load_robot(robot))
        self.lock_step = LockStep() if lock_step else None
        if self.lock_step is not None:
            self.lock_step.include(self.recorder.listener.node)

    @property
    def time(self) -> LockStep:
        """Simulated time; only of a rig in lock-step."""
        assert self.lock_step is not None, "this rig does not run in lock-step"
        return self.lock_step

    def start(self, spec: NodeSpec) -> NodeProcess:
        """Start a process; it takes part in the lock-step from the activation of its nodes on."""
        if spec.name == "sim":
            spec = with_fast_images(spec)
        if self.lock_step is not None:
            spec = in_lock_step(spec)
            self.lock_step.admit(*node_names(spec))
        return self.group.start(spec)

    def start_together(self, *specs: NodeSpec) -> None:
        """Start processes of a new stack; in lock-step time stands still until all of their nodes take part.

        Without it the nodes that are up would go on, at full load, while the others load their modules.
        """
        for spec in specs:
            self.start(spec)
        self.until_taking_part(*specs)

    def until_taking_part(self, *specs: NodeSpec) -> None:
        """Let time stand still until the nodes of started processes take part."""
        if self.lock_step is None:
            return
        names = [name for spec in specs for name in node_names(spec)]
        deadline = time.monotonic() + WALL_TIMEOUT_S
        while not self.lock_step.hold(*names, timeout=1.0):
            if time.monotonic() > deadline or self.group.dead():
                self._fail(
                    f"{', '.join(names)} in lock-step: not seen within {WALL_TIMEOUT_S} s of wall time\n"
                    f"{self._stacks()}"
                )

    def kill(self, name: str) -> None:
        """End a process at once (SIGKILL); time goes on without its nodes."""
        process = self.group.processes[name]
        process.kill()
        if self.lock_step is not None:
            self.lock_step.exclude(*node_names(process.spec))

    def freeze(self, name: str) -> None:
        """Stop a process as a GIL that is held or a machine that swaps does; time goes on without its nodes."""
        process = self.group.processes[name]
        process.signal(signal.SIGSTOP)
        self.time.exclude(*node_names(process.spec))

    def thaw(self, name: str) -> None:
        """Let a frozen process go on; time waits for its nodes again."""
        process = self.group.processes[name]
        self.time.admit(*node_names(process.spec))
        process.signal(signal.SIGCONT)

    def run(self, seconds: float) -> None:
        """Let simulated time pass [s]."""
        self.time.run(seconds)

    def until(
        self,
        what: str,
        condition: Callable[[Recorder], bool],
        *,
        timeout: float = SIM_TIMEOUT_S,
        wall: float = WALL_TIMEOUT_S,
    ) -> None:
        """Wait for `condition`; fail with the logs when it does not come true.

        Args:
            what: what is waited for, for the failure.
            condition: of what the recorder has seen.
            timeout: of simulated time [s]; without lock-step only `wall` counts.
            wall: of wall time [s], which has to pass as well.
        """
        recorder = self.recorder
        if self.lock_step is None:
            seen = recorder.wait_for(condition, timeout=wall)
        else:
            try:
                seen = self.lock_step.until(
                    lambda: recorder.wait_for(condition, timeout=0.0), timeout=timeout, least=wall
                )
            except StackFailed as failure:
                self._fail(f"{what}: {failure}\n{self._stacks()}")
        if seen:
            return
        simulated = "" if self.lock_step is None else f"{timeout} s of simulated time and "
        self._fail(f"{what}: not seen within {simulated}{wall} s of wall time")

    def _fail(self, what: str) -> NoReturn:
        """Fail the test with the ends of the logs."""
        logs = "\n".join(
            f"--- {name} (exit code {process.exit_code()})\n{process.log_tail(15)}"
            for name, process in self.group.processes.items()
        )
        pytest.fail(f"{what}; {machine_speed()}\n{logs}")

    def _stacks(self) -> str:
        """End every process by SIGABRT, upon which Python writes to the log where each of its threads is."""
        hung = {name: one for name, one in self.group.processes.items() if one.exit_code() is None}
        for process in hung.values():
            process.signal(signal.SIGABRT)
        for process in hung.values():
            process.signal(signal.SIGCONT)
            process.stop()
        return "\n".join(
            f"--- {name}, where its threads are\n{process.log_tail(STACK_LINES)}"
            for name, process in hung.items()
        )

    def start_all(self) -> None:
        """Start every process and wait until the arms move in NOMINAL."""
        self.start_together(sim(self.options), safety(self.options))
        self.until_commanded()
        self.start_together(*policy_processes(self.options))
        self.until_moving()

    def until_commanded(self) -> None:
        """Wait for the first commands: from then on the recorder sees all that the safety node sends."""
        self.until("commands", lambda r: all(series.stamps for series in r.commanded.values()))

    def until_moving(self) -> None:
        """Wait for a fresh chunk and the rung NOMINAL."""
        before = len(self.recorder.chunks)
        self.until("a new chunk", lambda r: len(r.chunks) > before)
        self.until("rung NOMINAL", lambda r: bool(r.safety) and r.safety[-1].ladder_to == Ladder.NOMINAL)

    def until_settled(self) -> None:
        """Wait until several chunks in a row have been played in NOMINAL and the safety node had nothing to report.

        The first chunks of a new stack find the arm away from the wave of the policy, which has begun meanwhile.
        """
        seen = (0, 0)

        def settled(recorder: Recorder) -> bool:
            nonlocal seen
            events, chunks = len(recorder.safety), len(recorder.chunks)
            if events != seen[0]:
                seen = (events, chunks)
            nominal = bool(events) and recorder.safety[-1].ladder_to == Ladder.NOMINAL
            return nominal and chunks - seen[1] >= SETTLED_CHUNKS

        self.until("several chunks in NOMINAL without an event", settled)

    def until_passing_home(self) -> None:
        """Wait until the arms pass their home position on the way down.

        The built-in policy `fake` waves every joint about the position that a new executor sees first, and moves up
        from there. An executor that is started again elsewhere waves about another centre, out of its range or into
        the table.
        """
        group = load_robot(self.options.robot).groups[0]
        joint = max(range(len(group.joints)), key=lambda i: group.joints[i].upper - group.joints[i].lower)
        home = group.joints[joint].home

        def passing(recorder: Recorder) -> bool:
            last = recorder.measured[group.name].series().positions[-10:, joint]
            return bool(last[-1] < last[0] and abs(last[-1] - home) < NEAR_HOME)

        self.until("the arms on their way down through home", passing)

    def until_rung(self, rung: Ladder) -> None:
        """Wait until the degrade ladder stands on `rung`."""
        self.until(f"rung {rung.name}", lambda r: bool(r.safety) and r.safety[-1].ladder_to == rung)

    def close(self) -> None:
        """End everything, also after a failure."""
        for process in self.group.processes.values():
            if process.exit_code() is None:
                process.signal(signal.SIGCONT)  # a frozen process cannot end
                process.signal(signal.SIGINT)  # all at once: nothing is asked of any of them any more
        self.group.stop()
        if self.lock_step is not None:
            self.lock_step.leave_out(self.recorder.listener.node)
        self.recorder.close()
        if self.lock_step is not None:
            self.lock_step.close()


@contextlib.contextmanager
def running_rig(log_dir: Path, *, robot: str = "piper", lock_step: bool = True) -> Iterator[Rig]:
    """A rig in a DDS domain of its own; nothing is started yet."""
    root = Path(__file__).resolve().parents[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(next(_domains)))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        environment = dict(os.environ, PYTHONPATH=str(root), PYTHONFAULTHANDLER="1")
        rig = Rig(log_dir, environment, robot=robot, lock_step=lock_step)
        try:
            yield rig
        finally:
            rig.close()
            # What a failed test leaves in reference cycles is finalised here, not in a later test, which pytest would
            # then fail for it.
            gc.collect()
