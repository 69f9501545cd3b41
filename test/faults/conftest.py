# SPDX-License-Identifier: Apache-2.0
"""A rig of real processes over real DDS: simulated Piper, safety, planner and executor, each killable."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wam.core.verdict import Ladder
from wam.devices.loader import load_robot
from wam.ros.environment import confine
from wam.stack.node_specs import StackOptions, executor, planner, policy_processes, safety, sim
from wam.stack.processes import NodeProcess, NodeSpec
from wam.stack.recorder import Recorder
from wam.stack.runner import StackRunner

_domains = itertools.count(os.getpid() % 50)
TIMEOUT_S = 40.0


class Rig:
    """The processes of a run, the recorder that listens to them, and waits with words.

    Args:
        log_dir: where the processes write their logs.
        environment: of the processes.
    """

    def __init__(self, log_dir: Path, environment: dict[str, str], *, robot: str = "piper") -> None:
        self.group = StackRunner(log_dir=log_dir, environment=environment)
        self.options = StackOptions(
            robot=robot, policy="fake", composed=False, plan_period=0.2, chunk_period=0.05
        )
        self.recorder = Recorder(load_robot(robot))

    def start(self, spec: NodeSpec) -> NodeProcess:
        return self.group.start(spec)

    def until(self, what: str, condition: Callable[[Recorder], bool], *, timeout: float = TIMEOUT_S) -> None:
        """Wait for `condition`; fail with the logs when it does not come true in time."""
        if self.recorder.wait_for(condition, timeout=timeout):
            return
        logs = "\n".join(
            f"--- {name} (exit code {process.exit_code()})\n{process.log_tail(15)}"
            for name, process in self.group.processes.items()
        )
        pytest.fail(f"{what}: not seen within {timeout} s\n{logs}")

    def start_all(self, *, timeout: float = TIMEOUT_S) -> None:
        """Start every process and wait until the arms move in NOMINAL."""
        self.start(sim(self.options))
        self.start(safety(self.options))
        self.hear_safety()
        if self.options.composed:
            for spec in policy_processes(self.options):
                self.start(spec)
        else:
            self.start(planner(self.options))
            self.start(executor(self.options))
        self.until_moving(timeout=timeout)

    def hear_safety(self) -> None:
        """Wait until the safety node is heard: from then on the recorder sees all that it commands."""
        self.until("commands", lambda r: all(series.stamps for series in r.commanded.values()))

    def until_moving(self, *, timeout: float = TIMEOUT_S) -> None:
        """Wait for a fresh chunk and the rung NOMINAL."""
        before = len(self.recorder.chunks)
        self.until("a new chunk", lambda r: len(r.chunks) > before, timeout=timeout)
        self.until("rung NOMINAL", lambda r: bool(r.safety) and r.safety[-1].ladder_to == Ladder.NOMINAL)

    def until_rung(self, rung: Ladder) -> None:
        """Wait until the degrade ladder stands on `rung`."""
        self.until(f"rung {rung.name}", lambda r: bool(r.safety) and r.safety[-1].ladder_to == rung)

    def close(self) -> None:
        """End everything, also after a failure."""
        self.group.stop()
        self.recorder.close()


@contextlib.contextmanager
def running_rig(log_dir: Path, *, robot: str = "piper") -> Iterator[Rig]:
    """A rig in a DDS domain of its own; nothing is started yet."""
    root = Path(__file__).resolve().parents[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(next(_domains) % 100 + 1))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        environment = dict(os.environ, PYTHONPATH=str(root))
        confine(environment, dds_profile=root / "config" / "dds" / "fastdds_shm.xml")
        rig = Rig(log_dir, environment, robot=robot)
        try:
            yield rig
        finally:
            rig.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A rig for one test."""
    with running_rig(tmp_path / "logs") as rig:
        yield rig


@pytest.fixture(scope="module")
def module_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A rig for all tests of a module."""
    with running_rig(tmp_path_factory.mktemp("rig") / "logs") as rig:
        yield rig


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[Callable[[str], Rig]]:
    """A function that makes the rig of a robot, for one test."""
    with contextlib.ExitStack() as stack:
        yield lambda robot: stack.enter_context(running_rig(tmp_path / "logs", robot=robot))
