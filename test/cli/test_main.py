# SPDX-License-Identifier: Apache-2.0
"""The frame of the `wam` command: verbs, help, exit codes, errors in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

import wam
from wam.cli import main as cli
from wam.core.errors import ConfigError, MissingDependency

ROOT = Path(__file__).resolve().parents[2]
VERBS = [
    "doctor",
    "demo",
    "sim",
    "eval",
    "replay",
    "record",
    "secure",
    "audit",
    "convert",
    "train",
    "export",
    "build-engine",
    "check-backend",
    "distill",
    "init",
    "info",
    "check",
    "soak",
    "bench",
]
"""A verb is a promise: scripts call it. Removing or renaming one belongs in the CHANGELOG."""


def app_of(function: Callable[[], None]) -> Callable[[], object]:
    """Return a maker of a command that runs `function`."""
    app = typer.Typer()
    app.command("verb")(function)
    return lambda: typer.main.get_command(app)


def test_the_verbs_are_those_promised() -> None:
    assert list(cli.VERBS) == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_module_and_a_help_with_its_exit_codes_or_verbs(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([verb, "--help"]) == cli.EXIT_OK
    text = capsys.readouterr().out
    assert f"wam {verb}" in text
    assert "Exit codes" in text or "Commands" in text


def test_the_help_lists_every_verb_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == cli.EXIT_OK
    text = capsys.readouterr().out
    assert all(f" {verb} " in text for verb in VERBS)
    assert "Exit codes: 0" in text


def test_the_help_imports_no_verb() -> None:
    """`wam --help` must answer at once, and a verb with a missing part must not break it."""
    code = (
        "import sys; from wam.cli import main; assert main.run(['--help']) == 0; print(sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1]
    for verb in VERBS:
        assert f"'wam.cli.{verb}'" not in loaded
    for heavy in ("torch", "rclpy", "mujoco", "numpy"):
        assert f"'{heavy}'" not in loaded


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == cli.EXIT_OK
    assert capsys.readouterr().out == f"wam {wam.__version__}\n"


def test_no_verb_shows_the_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == cli.EXIT_COULD_NOT_RUN
    assert "Usage: wam" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["dmeo"], "error: No such command 'dmeo'"),
        (["doctor", "--jsno"], "No such option: --jsno"),
        (["demo", "--seconds", "long"], "'--seconds'"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_1(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == cli.EXIT_COULD_NOT_RUN
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert text in captured.err
    assert "--help" in captured.err


def test_an_error_of_the_suite_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ConfigError("piper.yaml: rate [Hz]", value=-1, allowed="> 0", where="piper.yaml")

    assert cli.run([], command=app_of(fail)) == cli.EXIT_COULD_NOT_RUN
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: piper.yaml: rate [Hz]: got -1; allowed: > 0; change it in piper.yaml\n"


def test_a_missing_module_is_named_with_its_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ModuleNotFoundError("No module named 'rclpy'", name="rclpy")

    assert cli.run([], command=app_of(fail)) == cli.EXIT_COULD_NOT_RUN
    error = capsys.readouterr().err
    assert "rclpy, which is not installed" in error
    assert "make setup" in error


def test_a_verb_whose_import_lacks_a_part_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("wam.cli.replay")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich.table", None)
    with pytest.raises(MissingDependency, match="wam replay needs the Python module rich"):
        cli.load_verb("replay")
    assert cli.run(["--version"]) == cli.EXIT_OK
    assert capsys.readouterr().out.startswith("wam ")


def test_a_missing_module_of_our_own_is_a_fault_and_not_an_installation_matter() -> None:
    def fail() -> None:
        raise ModuleNotFoundError("No module named 'wam.nowhere'", name="wam.nowhere")

    with pytest.raises(ModuleNotFoundError, match=r"wam\.nowhere"):
        cli.run([], command=app_of(fail))


def test_ctrl_c_ends_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    assert cli.run([], command=app_of(interrupt)) == cli.EXIT_INTERRUPTED
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("code", [0, 2, 7])
def test_an_exit_code_of_a_verb_comes_through(code: int) -> None:
    def leave() -> None:
        raise typer.Exit(code)

    assert cli.run([], command=app_of(leave)) == code


def test_units_in_brackets_survive_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """rich takes [s] for markup and drops it."""
    assert cli.run(["demo", "--help"]) == cli.EXIT_OK
    assert "[s]" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["info"], ["info", "--json"], ["--help"]], ids=" ".join)
def test_output_that_nobody_reads_ends_the_verb_without_a_word(words: list[str]) -> None:
    """`wam info | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "wam.cli.main", *words],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (cli.EXIT_COULD_NOT_RUN, "")
