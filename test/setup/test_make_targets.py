# SPDX-License-Identifier: Apache-2.0
"""The Makefile has the promised targets, and continuous integration runs two of them and nothing else."""

from __future__ import annotations

import os
import re
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
        ("test", ".venv/bin/python -m pytest"),
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
    assert plan("test", "ARGS=test/core -x")[-1].endswith("pytest test/core -x")


def test_lint_runs_all_four_tools() -> None:
    commands = " ".join(plan("lint"))
    for tool in ("ruff check", "ruff format --check", "mypy", "lint-imports"):
        assert tool in commands


def test_continuous_integration_calls_lint_and_test_only() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands[0] == "set -e"
    assert [line for line in commands[1:] if not line.startswith("cd ")] == ["make lint", "make test"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_help_names_every_target() -> None:
    done = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    for target in set(phony[1].split()) - {"help"}:
        assert f"make {target}" in done.stdout
