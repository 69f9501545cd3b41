# SPDX-License-Identifier: Apache-2.0
"""Waits for events in wall time, with one limit for all: long enough for a slow machine, short enough to end a hang."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

HANG_S = 60.0
"""What a test waits for comes within a few seconds on an idle machine of two cores; after this it will not come [s]."""

SPEED_ADDITIONS = 2_000_000


def wait_until(
    condition: Callable[[], Any],
    what: str,
    *,
    turn: Callable[[], Any],
    timeout: float = HANG_S,
    details: Callable[[], Any] = lambda: "",
) -> None:
    """Take turns until `condition` holds.

    Args:
        condition: looked at after every turn.
        what: what is waited for, for the failure.
        turn: blocks until something may have happened, e.g. spins an rclpy executor once with a short timeout.
        timeout: wall time after which the test fails [s].
        details: what else the failure says.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, (
            f"{what}: not seen within {timeout} s; {machine_speed()} {details()}".rstrip()
        )
        turn()


def machine_speed() -> str:
    """Return how fast this machine is now, for the message of a test that ran out of wall time."""
    began, cpu = time.monotonic(), time.thread_time()
    total = 0
    for number in range(SPEED_ADDITIONS):
        total += number
    wall, cpu = time.monotonic() - began, time.thread_time() - cpu
    scale = 20_000_000 / SPEED_ADDITIONS
    return (
        f"20 million additions in Python take {wall * scale:.1f} s here now, {cpu * scale:.1f} s of them on a core "
        "(1.4 s on the idle two-core machine that the limits were chosen on)"
    )
