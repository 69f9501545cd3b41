# SPDX-License-Identifier: Apache-2.0
"""The runner of node processes: order, time limits, logs and shutdown, with small Python processes as nodes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wam.stack.processes import NodeSpec
from wam.stack.runner import StackFailed, StackRunner, TimeLimits

LIMITS = TimeLimits(ready=30.0, answer=30.0, interrupt=30.0, terminate=30.0)

NODES = {
    # Says what it does in files of its folder; ends with SIGINT as a node does.
    "good": """
        try:
            ready()
            time.sleep(600)
        except KeyboardInterrupt:
            ended()
    """,
    "late": """
        while not (folder / "go").exists():
            time.sleep(0.01)
        ready()
        time.sleep(600)
    """,
    "dies": """
        print("the camera is unplugged", flush=True)
        sys.exit(7)
    """,
    "floods": """
        for number in range(20000):
            print(f"line {number} " + "x" * 80)
        print("the last words", flush=True)
        sys.exit(1)
    """,
    "stubborn": """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ready()
        while True:
            time.sleep(600)
    """,
    "deaf_to_interrupt": """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        ready()
        time.sleep(600)
    """,
}

PREAMBLE = """
import pathlib, signal, sys, time
folder = pathlib.Path({folder!r})
def note(what):
    with (folder / "order").open("a") as file:
        file.write(f"{{NAME}} {{what}}\\n")
def ready():
    note("ready")
    (folder / f"{{NAME}}.ready").touch()
def ended():
    note("ended")
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., NodeSpec]:
    """Return a function that makes the spec of a process of one of the kinds above."""
    modules = tmp_path / "modules"
    modules.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(modules))

    def make(kind: str, name: str = "") -> NodeSpec:
        name = name or kind
        body = "\n".join(line[8:] for line in NODES[kind].splitlines())
        source = f"NAME = {name!r}\n{PREAMBLE.format(folder=str(tmp_path))}\n{body}\n"
        (modules / f"node_{name}.py").write_text(source)
        return NodeSpec(name, f"node_{name}", {name: {"rate": 1.0}})

    return make


@pytest.fixture
def runner(tmp_path: Path, spec: Callable[..., NodeSpec]) -> Iterator[StackRunner]:
    one = StackRunner(log_dir=tmp_path / "logs", limits=LIMITS)
    yield one
    for process in one.processes.values():
        process.kill()


def is_ready(folder: Path, name: str) -> Callable[[], bool]:
    return lambda: (folder / f"{name}.ready").exists()


def run(
    runner: StackRunner,
    *specs: NodeSpec,
    until: Callable[[], bool] = lambda: False,
    timeout: float | None = None,
) -> None:
    with runner:
        runner.start(*specs)
        runner.wait_for("the first chunk", until, timeout=timeout)


def order(folder: Path) -> list[str]:
    return (folder / "order").read_text().splitlines()


def test_nodes_start_in_order_and_stop_in_reverse(
    tmp_path: Path, spec: Callable[..., NodeSpec], runner: StackRunner
) -> None:
    with runner:
        for name in ("sim", "safety", "policy"):
            runner.start(spec("good", name))
            runner.wait_for(f"{name} to be ready", is_ready(tmp_path, name))
    ready = [f"{name} ready" for name in ("sim", "safety", "policy")]
    assert order(tmp_path) == [*ready, "policy ended", "safety ended", "sim ended"]
    assert runner.alive() == {"sim": 0, "safety": 0, "policy": 0}


def test_a_late_node_is_waited_for_and_its_wait_is_reported(
    tmp_path: Path, spec: Callable[..., NodeSpec]
) -> None:
    phases: list[str] = []

    def on_wait(phase: str) -> None:
        phases.append(phase)
        (tmp_path / "go").touch()

    with StackRunner(log_dir=tmp_path / "logs", limits=LIMITS, on_wait=on_wait) as runner:
        runner.start(spec("late"))
        runner.wait_for("the first chunk", is_ready(tmp_path, "late"))
    assert set(phases) == {"waiting for the first chunk"}


def test_a_node_that_stays_silent_ends_the_wait_at_its_limit(
    tmp_path: Path, spec: Callable[..., NodeSpec], runner: StackRunner
) -> None:
    with pytest.raises(StackFailed) as error:
        run(runner, spec("late"), until=is_ready(tmp_path, "late"), timeout=0.2)
    text = str(error.value)
    assert "gave up waiting for the first chunk" in text
    assert "0.2 s" in text
    assert str(tmp_path / "logs") in text
    assert runner.alive()["late"] is not None, "the node still runs"


def test_a_node_that_dies_ends_the_wait_with_the_end_of_its_log(
    spec: Callable[..., NodeSpec], runner: StackRunner
) -> None:
    with pytest.raises(StackFailed) as error:
        run(runner, spec("good"), spec("dies"))
    text = str(error.value)
    assert "dies ended with code 7 while waiting for the first chunk" in text
    assert "the camera is unplugged" in text
    assert runner.alive()["good"] is not None, "a node was left running"


def test_of_a_flooded_log_only_the_end_is_shown(spec: Callable[..., NodeSpec], runner: StackRunner) -> None:
    with pytest.raises(StackFailed) as error:
        run(runner, spec("floods"))
    text = str(error.value)
    assert "the last words" in text
    assert len(text) < 3000
    assert len(runner.processes["floods"].log_tail(10_000)) <= 64 * 1024


def test_a_node_that_ignores_signals_is_killed(tmp_path: Path, spec: Callable[..., NodeSpec]) -> None:
    limits = TimeLimits(interrupt=0.2, terminate=0.2)
    with StackRunner(log_dir=tmp_path / "logs", limits=limits) as runner:
        runner.start(spec("stubborn"))
        runner.wait_for("the node to be ready", is_ready(tmp_path, "stubborn"))
    assert runner.alive() == {"stubborn": -signal.SIGKILL}


def test_a_node_that_ignores_an_interrupt_is_terminated(
    tmp_path: Path, spec: Callable[..., NodeSpec]
) -> None:
    limits = TimeLimits(interrupt=0.2, terminate=30.0)
    with StackRunner(log_dir=tmp_path / "logs", limits=limits) as runner:
        runner.start(spec("deaf_to_interrupt"))
        runner.wait_for("the node to be ready", is_ready(tmp_path, "deaf_to_interrupt"))
    assert runner.alive() == {"deaf_to_interrupt": -signal.SIGTERM}


def test_ctrl_c_stops_every_node_in_order(
    tmp_path: Path, spec: Callable[..., NodeSpec], runner: StackRunner
) -> None:
    def both_ready() -> bool:
        if all(is_ready(tmp_path, name)() for name in ("sim", "policy")):
            os.kill(os.getpid(), signal.SIGINT)
        return False

    with pytest.raises(KeyboardInterrupt):
        run(runner, spec("good", "sim"), spec("good", "policy"), until=both_ready)
    assert order(tmp_path)[-2:] == ["policy ended", "sim ended"]


def test_a_second_ctrl_c_kills_what_is_left(
    tmp_path: Path, spec: Callable[..., NodeSpec], runner: StackRunner
) -> None:
    runner.start(spec("good"), spec("stubborn"))
    for name in ("good", "stubborn"):
        runner.wait_for(f"{name} to be ready", is_ready(tmp_path, name))
    threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        runner.stop()
    assert runner.alive() == {"good": -signal.SIGKILL, "stubborn": -signal.SIGKILL}


def test_a_name_is_used_once_and_a_dead_node_may_be_started_again(
    tmp_path: Path, spec: Callable[..., NodeSpec], runner: StackRunner
) -> None:
    with runner:
        first = runner.start(spec("good"))
        with pytest.raises(ValueError, match="good is running already"):
            runner.start(spec("good"))
        first.kill()
        assert [process.spec.name for process in runner.dead()] == ["good"]
        second = runner.start(spec("good"))
        assert second.pid != first.pid
        runner.wait_for("the node to be ready", is_ready(tmp_path, "good"))
        runner.require_alive()


def test_a_wait_is_woken_by_messages(spec: Callable[..., NodeSpec], tmp_path: Path) -> None:
    """The listener checks the condition at every message, so that a wait does not add its polling time."""

    class Mailbox:
        def __init__(self) -> None:
            self.changed = threading.Condition()
            self.messages = 0

        def wait_for(self, condition: Callable[[], bool], *, timeout: float) -> bool:
            with self.changed:
                return self.changed.wait_for(condition, timeout)

        def receive(self) -> None:
            with self.changed:
                self.messages += 1
                self.changed.notify_all()

    box = Mailbox()
    with StackRunner(log_dir=tmp_path / "logs", limits=LIMITS, messages=box) as runner:
        runner.start(spec("good"))
        threading.Timer(0.05, box.receive).start()
        runner.wait_for("a message", lambda: box.messages > 0)
    assert box.messages == 1
