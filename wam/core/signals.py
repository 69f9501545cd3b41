# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM as something that a loop can look at."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Set `stop` on the first Ctrl-C or SIGTERM; the second acts as usual."""
    previous: dict[int, Any] = {}

    def on_signal(number: int, frame: object) -> None:
        stop.set()
        signal.signal(number, previous[number])

    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        previous[number] = signal.getsignal(number)
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
