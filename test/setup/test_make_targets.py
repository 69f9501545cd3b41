# SPDX-License-Identifier: Apache-2.0
"""The Makefile has the promised targets, and continuous integration runs two of them and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def plan(*arguments: str) -> list[str]:
    """Return the commands that make would run."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("demo", ".venv/bin/wam demo piper"),
        ("test", "tools/test.sh"),
        ("lint", ".venv/bin/mypy"),
        ("bench", ".venv/bin/wam bench"),
    ],
)
def test_a_target_sets_up_first_and_runs_in_the_private_environment(target: str, command: str) -> None:
    lines = plan(target)
    assert lines[0] == "./tools/setup/setup.sh"
    matching = [line for line in lines if command in line]
    assert matching
    assert all("./tools/setup/env.sh" in line for line in lines[1:])


def test_arguments_reach_the_command() -> None:
    assert plan("test", "ARGS=test/core -x")[-1].endswith("tools/test.sh test/core -x")


class Copy:
    """tools/test.sh in a folder of its own, with a Python that only notes how it is called."""

    def __init__(self, root: Path, *, fails_on: str = "nothing", with_code: int = 1) -> None:
        (root / "tools").mkdir()
        shutil.copy(ROOT / "tools" / "test.sh", root / "tools")
        python = root / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(
            f'#!/bin/sh\necho "$@" >> calls\ncase "$*" in *"{fails_on}"*) exit {with_code} ;; esac\n'
        )
        python.chmod(0o755)
        self.root = root

    def run(self, *arguments: str) -> tuple[int, list[str]]:
        code = subprocess.run([self.root / "tools" / "test.sh", *arguments], check=False).returncode
        return code, (self.root / "calls").read_text().splitlines()


RUNS = [
    "-m not ros --numprocesses 2 --dist worksteal",
    "-m ros and not alone --numprocesses 2 --dist loadfile --no-loadscope-reorder",
    "-m ros and alone",
]


def reported(runs: list[str]) -> list[str]:
    """Return the arguments of each run with the report that it leaves."""
    names = ("plain", "ros", "alone")
    return [f"--junit-xml=build/tests/{name}.xml {run}" for name, run in zip(names, runs, strict=True)]


def test_without_arguments_every_test_is_in_one_of_three_runs(tmp_path: Path) -> None:
    assert Copy(tmp_path).run() == (0, [f"-m pytest {run}" for run in reported(RUNS)])


@pytest.mark.parametrize("part", ["-m not ros", "-m ros and not alone", "-m ros and alone"])
def test_a_failure_in_any_run_fails_all_and_none_is_left_out(tmp_path: Path, part: str) -> None:
    code, calls = Copy(tmp_path, fails_on=part).run()
    assert (code, len(calls)) == (1, 4)
    assert calls[3] == "tools/failures.py build/tests/*.xml", "and what failed is listed at the end"


@pytest.mark.parametrize("words", [("--shard", "2/3"), ("--shard=2/3",)])
def test_a_shard_has_its_part_of_every_run(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert Copy(tmp_path).run(*words) == (0, [f"-m pytest --shard 2/3 {run}" for run in reported(RUNS)])


@pytest.mark.parametrize(("part", "code"), [("-m ros and alone", 0), ("-m not ros", 5)])
def test_a_shard_may_have_none_of_the_tests_that_run_alone(tmp_path: Path, part: str, code: int) -> None:
    no_tests = 5
    assert Copy(tmp_path, fails_on=part, with_code=no_tests).run("--shard", "2/3")[0] == code


def test_with_arguments_there_is_one_run(tmp_path: Path) -> None:
    assert Copy(tmp_path).run("test/core", "-k", "a b") == (0, ["-m pytest test/core -k a b"])


def test_lint_runs_all_four_tools() -> None:
    commands = " ".join(plan("lint"))
    for tool in ("ruff check", "ruff format --check", "mypy", "lint-imports"):
        assert tool in commands


def test_continuous_integration_calls_lint_and_test_only() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands[0] == "set -e"
    assert [line for line in commands[1:] if not line.startswith("cd ")] == [
        "make lint",
        'make test ARGS="$*"',
    ]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_help_names_every_target() -> None:
    done = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    for target in set(phony[1].split()) - {"help"}:
        assert f"make {target}" in done.stdout
