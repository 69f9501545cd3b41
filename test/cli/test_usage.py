# SPDX-License-Identifier: Apache-2.0
"""Wrong words on the command line are answered with the right ones; shells complete the right ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wam.cli import main as cli

ROOT = Path(__file__).resolve().parents[2]
WAM = (sys.executable, "-c", "from wam.cli.main import main; main()")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["replai"], "replay"),
        (["sim", "tsaks"], "tasks"),
        (["convert", "lerbot"], "lerobot"),
        (["doctor", "--jsno"], "--json"),
        (["replay", "bag", "--robbot", "piper"], "--robot"),
        (["sim", "record", "out", "--format", "lerbot"], "lerobot"),
        (["info", "--robot", "pipre"], "piper"),
        (["info", "--preset", "aha_wam/papr"], "aha_wam/paper"),
        (["info", "--policy", "state/piper_move_large_objct"], "state/piper_move_large_object"),
        (["info", "--policy", "ur5e_inspire_put_block_ner"], "state/ur5e_inspire_put_block_near"),
    ],
)
def test_a_wrong_word_is_answered_with_the_one_that_was_meant(
    arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == cli.EXIT_COULD_NOT_RUN
    error = capsys.readouterr().err
    assert f"did you mean '{meant}'?" in error
    assert len(error.splitlines()) == 1
    assert error.lower().count("did you mean") == 1


@pytest.mark.parametrize("arguments", [["xyzzy"], ["doctor", "--quux"], ["info", "--robot", "quaternion"]])
def test_a_word_like_no_other_is_answered_with_no_guess(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == cli.EXIT_COULD_NOT_RUN
    assert "did you mean" not in capsys.readouterr().err.lower()


def complete(words: str, *, at: int) -> list[str]:
    """Return what bash would be offered for the word number `at` of a command line."""
    environment = {**os.environ, "COMP_WORDS": words, "COMP_CWORD": str(at), "_WAM_COMPLETE": "complete_bash"}
    done = subprocess.run(WAM, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.split()


def test_a_shell_completes_verbs_subcommands_and_options() -> None:
    assert complete("wam re", at=1) == ["replay", "record"]
    assert {"tasks", "record"} <= set(complete("wam sim ", at=2))
    assert "--task" in complete("wam sim record --ta", at=3)


def test_completion_is_installed_for_the_shell_that_asks(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path)}
    program = " ".join(f"'{word}'" for word in WAM)
    done = subprocess.run(
        ["/bin/bash", "-c", f"{program} --install-completion; exit $?"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    script = tmp_path / ".bash_completions" / "wam.sh"
    assert "_WAM_COMPLETE=complete_bash" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()
