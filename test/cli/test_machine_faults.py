# SPDX-License-Identifier: Apache-2.0
"""Disk, permission and display: one line, an exit code of its own, never a traceback and never a result."""

from __future__ import annotations

import errno
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from wam.cli import main as cli
from wam.core.errors import (
    CannotRender,
    ConfigError,
    MachineFault,
    RecordingError,
    WamError,
    is_machine_fault,
    named_os_error,
)
from wam.evaluation.check.problem import ProblemKind, Problems
from wam.sim.gl import refusal_of_mujoco, rendering_remedy

Kind = Callable[[], BaseException]


def full_disk() -> BaseException:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/report/index.html")


def no_permission() -> BaseException:
    return PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/data/report")


def no_display() -> BaseException:
    return CannotRender("simulated cameras need EGL, which cannot be used here; apt install libegl1")


KINDS = (full_disk, no_permission, no_display)


def verbs_with_subcommands() -> list[tuple[str, ...]]:
    """Return the words of every command of `wam`: the verbs of its own list, and what they hold."""

    def below(command: Any, words: tuple[str, ...]) -> list[tuple[str, ...]]:
        commands = getattr(command, "commands", {})
        if not commands:
            return [words]
        return [found for name, one in commands.items() for found in below(one, (*words, name))]

    return [words for verb in cli.VERBS for words in below(cli.load_verb(verb), (verb,))]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("words", verbs_with_subcommands(), ids=" ".join)
def test_a_refusal_of_the_machine_is_one_line_and_exit_code_3_in_every_verb(
    words: tuple[str, ...], kind: Kind, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unwritable folders, full disks and a bad MUJOCO_GL ended in tracebacks, in one verb after another."""
    load = cli.load_verb

    def load_broken(name: str) -> Any:
        verb = command = load(name)
        for word in words[1:]:
            command = command.commands[word]

        def fail(**options: Any) -> None:
            raise kind()

        # Its own arguments are not what is tested; everything else is the verb's.
        monkeypatch.setattr(command, "params", [])
        monkeypatch.setattr(command, "callback", fail)
        return verb

    monkeypatch.setattr(cli, "load_verb", load_broken)
    assert cli.run(list(words)) == cli.EXIT_MACHINE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_that_such_a_refusal_caused_is_one_of_the_machine(kind: Kind) -> None:
    with pytest.raises(RecordingError) as caught:
        fail_because_of(kind())
    assert is_machine_fault(caught.value)
    # The cause of an error does not reach another process; what it told does.
    assert is_machine_fault(as_another_process_gets(caught.value))


def fail_because_of(cause: BaseException) -> None:
    raise RecordingError("recording cannot be written") from cause


def as_another_process_gets(error: WamError) -> WamError:
    """Return what a process of a pool would send."""
    mine, theirs = multiprocessing.Pipe()
    try:
        theirs.send(error)
        received = mine.recv()
    finally:
        mine.close()
        theirs.close()
    assert isinstance(received, WamError)
    return received


def test_an_error_of_the_user_is_none_of_the_machine() -> None:
    assert not is_machine_fault(ConfigError("piper.yaml: rate [Hz]", value=-1))
    assert not isinstance(named_os_error(FileNotFoundError(errno.ENOENT, "No such file", "x")), MachineFault)


def test_an_os_error_that_the_system_did_not_raise_keeps_its_traceback() -> None:
    """A time-out of a pool of processes, an `OSError` without number or text, ended `wam` with "error: "."""

    def fail() -> None:
        raise TimeoutError

    app = typer.Typer()
    app.command("verb")(fail)
    with pytest.raises(TimeoutError):
        cli.run([], command=lambda: typer.main.get_command(app))


def test_a_full_disk_says_where_and_what_helps() -> None:
    text = str(named_os_error(OSError(errno.ENOSPC, "No space left on device", "/data/x")))
    assert text.startswith("/data/x: No space left on device")
    assert "free space" in text


def test_a_real_full_device_is_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")

    def fail() -> None:
        Path("/dev/full").write_text("a report")

    app = typer.Typer()
    app.command("verb")(fail)
    assert cli.run([], command=lambda: typer.main.get_command(app)) == cli.EXIT_MACHINE
    assert "No space left on device" in capsys.readouterr().err


def test_what_this_machine_may_not_read_is_no_problem_of_a_recording() -> None:
    problems = Problems()
    problems.refused(ProblemKind.JOINTS, "episode 1", RecordingError("joints are missing"))
    try:
        raise RecordingError("cannot be read") from no_permission()
    except RecordingError as error:
        with pytest.raises(RecordingError, match="cannot be read"):
            problems.refused(ProblemKind.JOINTS, "episode 2", error)
    assert len(list(problems)) == 1


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "apt install libegl1"),
        ({"MUJOCO_GL": "egl"}, "apt install libegl1"),
        ({"MUJOCO_GL": "nonsense"}, "MUJOCO_GL is 'nonsense': unset it"),
        ({"MUJOCO_GL": "glfw"}, "MUJOCO_GL is 'glfw': unset it"),
        ({"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "osmesa"}, "PYOPENGL_PLATFORM is 'osmesa': unset it"),
    ],
)
def test_the_remedy_for_rendering_names_the_variable_that_is_in_the_way(
    environment: dict[str, str], said: str
) -> None:
    """Whatever was wrong, packages were to be installed; and demo has no option to run without cameras."""
    remedy = rendering_remedy(environment)
    assert said in remedy
    assert "without cameras" not in remedy


def test_a_value_that_mujoco_refuses_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`MUJOCO_GL=nonsense wam eval` was a traceback: MuJoCo cannot even be imported then."""

    def fail() -> None:
        raise RuntimeError("invalid value for environment variable MUJOCO_GL: nonsense")

    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    app = typer.Typer()
    app.command("verb")(fail)
    assert cli.run([], command=lambda: typer.main.get_command(app)) == cli.EXIT_MACHINE
    assert "environment variable MUJOCO_GL: got 'nonsense'" in capsys.readouterr().err
    assert refusal_of_mujoco(RuntimeError("another"), {"MUJOCO_GL": "nonsense"}) is None


@pytest.mark.parametrize("words", verbs_with_subcommands(), ids=" ".join)
def test_no_help_text_shows_markup(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Two help texts said "[bold]wam train[/bold]"."""
    assert cli.run([*words, "--help"]) == cli.EXIT_OK
    assert "[bold]" not in capsys.readouterr().out
