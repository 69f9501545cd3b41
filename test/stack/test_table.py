# SPDX-License-Identifier: Apache-2.0
"""The line of a run's progress names the rate of every joint group."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from wam.core.clock import NS_PER_S

pytest.importorskip("rclpy", reason="the recorder of a run needs rclpy (make setup)")

from wam.stack.demo import Progress
from wam.stack.table import LiveTable


def shown(measured: dict[str, float], commanded: dict[str, float]) -> str:
    """Return what is printed, where groups come at rates [Hz]; 0 for one that has not come."""

    def series(rates: dict[str, float]) -> dict[str, SimpleNamespace]:
        times = {
            name: [round(i * NS_PER_S / rate) for i in range(100)] if rate else []
            for name, rate in rates.items()
        }
        return {name: SimpleNamespace(arrivals=arrivals) for name, arrivals in times.items()}

    recorder = SimpleNamespace(
        measured=series(measured),
        commanded=series(commanded),
        images=3,
        planner_status=None,
        executor_status=None,
        safety=[],
    )
    out = io.StringIO()
    console = Console(file=out, width=200, force_terminal=False)
    with LiveTable(console, "demo") as table:
        table.show(Progress("running", 1.0, 10.0, recorder, {}))  # type: ignore[arg-type]  # no node
    return out.getvalue()


def test_two_groups_are_not_shown_as_a_fraction() -> None:
    """The Franka's arm and gripper were "joint states 239 / 15 Hz"."""
    text = shown({"arm": 239.0, "gripper": 15.0}, {"gripper": 0.0})
    assert "joint states arm 239 Hz, gripper 15 Hz, 3 images" in text
    assert "safety: starting" in text


def test_a_rate_is_not_taken_from_messages_that_came_at_once() -> None:
    """The first two joint states of an episode had waited together: 52,837 Hz."""
    assert "commands left -, right 100 Hz" in shown({"body": 30.0}, {"left": 52_837.0, "right": 100.0})


def test_one_group_needs_no_name_and_one_that_is_missing_shows() -> None:
    assert "joint states 30 Hz, 3 images" in shown({"body": 30.0}, {})
    assert "safety: commands left -, right 100 Hz" in shown({"body": 30.0}, {"left": 0.0, "right": 100.0})
