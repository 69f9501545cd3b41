# SPDX-License-Identifier: Apache-2.0
"""`wam demo --viewer`: positions reach the window, its user may close it, and one line tells how it ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels (make setup)")

from wam.sim.window import Window
from wam.stack.onlooker import AUTOGROUP, NICENESS, OnlookerEnd
from wam.stack.samples import JointSample
from wam.stack.window_viewer import Newest, how_it_ended, show_until_closed

pytestmark = [pytest.mark.ros, pytest.mark.sim]

LOG = Path("logs/window.log")


class FakeWindow:
    """A window whose user closes it after some pictures."""

    def __init__(self, *, closed_after: int, on_show: Callable[[], None] = lambda: None) -> None:
        self.shown: list[list[float]] = []
        self._left, self._on_show = closed_after, on_show

    def is_open(self) -> bool:
        return len(self.shown) < self._left

    def show(self, positions: npt.NDArray[np.float64]) -> None:
        self.shown.append(positions.tolist())
        self._on_show()

    def close(self) -> None:
        self._left = 0


def sample(*positions: float) -> JointSample:
    return JointSample(0, np.array(positions))


def test_the_newest_positions_are_shown_once_until_the_user_closes_the_window() -> None:
    newest = Newest()
    waiting = [(sample(0.0), sample(1.0)), (), (sample(2.0),)]

    def pop() -> npt.NDArray[np.float64] | None:
        for one in waiting.pop(0):
            newest.take(one, 0)
        return newest.pop()

    window: Window = (fake := FakeWindow(closed_after=2))
    show_until_closed(window, pop, threading.Event())
    assert fake.shown == [[1.0], [2.0]]
    assert waiting == []


def test_a_window_that_stays_open_is_left_when_the_run_ends() -> None:
    stop = threading.Event()
    window = FakeWindow(closed_after=1000, on_show=stop.set)
    show_until_closed(window, lambda: np.zeros(1), stop)
    assert window.shown == [[0.0]]
    assert window.is_open()


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (OnlookerEnd(0, False, LOG, ""), ""),
        (OnlookerEnd(0, True, LOG, ""), "the window of the viewer was closed before the run ended"),
        (
            OnlookerEnd(1, True, LOG, "Traceback (most recent call last):\n  ...\nNo GLX on this display\n"),
            "the window of the viewer ended with exit code 1 before the run did: No GLX on this display "
            "(logs/window.log)",
        ),
        (
            OnlookerEnd(-signal.SIGSEGV, True, LOG, "something\n"),
            "the window of the viewer ended with exit code -11 before the run did (logs/window.log)",
        ),
    ],
)
def test_the_end_of_a_window_is_told_in_one_line(end: OnlookerEnd, text: str) -> None:
    assert how_it_ended(end) == text


GIVES_WAY = """
import os
from wam.sim.window import Window
from wam.stack.onlooker import AUTOGROUP, give_way

give_way()
print(os.nice(0), AUTOGROUP.read_text().split()[-1] if AUTOGROUP.exists() else "none")
"""


def test_an_onlooker_gives_way_to_the_nodes_whatever_session_they_are_in() -> None:
    """Its niceness counted within its own session alone: the rerun viewer took as much time as the simulator."""
    done = subprocess.run(
        [sys.executable, "-c", GIVES_WAY], capture_output=True, text=True, check=True, start_new_session=True
    )
    nice, group = done.stdout.split()
    assert int(nice) >= NICENESS
    assert group == (str(NICENESS) if AUTOGROUP.exists() else "none")
