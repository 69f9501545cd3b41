# SPDX-License-Identifier: Apache-2.0
"""Runs of `wam` that are refused, and what their errors tell to do about it, taken from the errors as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wam.cli.main import EXIT_FAILED_CHECK, EXIT_OK, run

Told = pytest.CaptureFixture[str]

ROBOT = """\
title: A lab robot
groups:
  - name: body
    state: {topic: joint_states, rate: 30, max_age: {value: 200, unit: ms}}
    command: {kind: none}
    joints:
      - {name: j0, driver_name: d0, kind: revolute, lower: -3, upper: 3, velocity: 2, acceleration: 10, jerk: 100}
      - {name: j1, driver_name: d1, kind: revolute, lower: -3, upper: 3, velocity: 2, acceleration: 10, jerk: 100}
      - {name: j2, driver_name: d2, kind: revolute, lower: -3, upper: 3, velocity: 2, acceleration: 10, jerk: 100}
cameras:
  - {name: cam_high, topic: cam_high/image_raw/compressed, transport: compressed, encoding: jpeg, height: 48, \
width: 64, rate: 30, max_age: {value: 200, unit: ms}, frame_id: cam}
safety: {chunk_timeout: {value: 300, unit: ms}, max_jump: 0.5, tracking_error: 0.5, lead: {value: 50, unit: ms}, \
blend: {value: 100, unit: ms}}
"""
"""The robot of `wam.data.fakes` as a file; bags call it "fake"."""


def robot_file(folder: Path, *changes: tuple[str, str], name: str = "fake") -> Path:
    """Write the fake robot's file, with texts replaced."""
    text = ROBOT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(words: list[object], told: Told) -> str:
    """Run `wam` with `words`, which must be refused, and return the error as one line."""
    code = run([str(word) for word in words])
    lines = told.readouterr().err
    assert code == 1, lines
    return " ".join(lines.split()).removeprefix("error: ")


def accepted(words: list[object], told: Told) -> None:
    """Run `wam` with `words`, which must get to its end; what a gate then says of the policy is another matter."""
    code = run([str(word) for word in words])
    lines = told.readouterr().err
    assert code in (EXIT_OK, EXIT_FAILED_CHECK), lines


def remedy(error: str) -> str:
    """Return the part of an error that says what to do."""
    found = re.search(r"(?:; change it in |; or pass |; see )(.*)$", error)
    assert found, f"no remedy in: {error}"
    return found[0]


def flag(error: str, name: str) -> list[object]:
    """Return an option without a value that the remedy names."""
    assert re.search(rf"(?<![\w-]){name}(?![\w-])", remedy(error)), error
    return [name]


def option(error: str, name: str, **filled: str) -> list[object]:
    """Return an option with the value that the remedy gives for it, capital placeholders filled in.

    Args:
        error: text.
        name: with its dashes.
        filled: placeholder -> value; a placeholder may also be what stands for the whole value.
    """
    found = re.search(rf"(?<![\w-]){name} ([^\s;()]+)", remedy(error))
    assert found, error
    value = found[1].rstrip(",.")
    for placeholder, text in filled.items():
        assert placeholder in value, error
        value = value.replace(placeholder, text)
    return [name, value]


def named(error: str, name: str, value: object) -> list[object]:
    """Return an option that the remedy names without a value, with a value that the error says is allowed."""
    flag(error, name)
    assert str(value) in error, error
    return [name, value]
