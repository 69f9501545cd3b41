# SPDX-License-Identifier: Apache-2.0
"""Names of threads as the kernel shows them (`top -H`, /proc/PID/task); Python before 3.14 does not set them."""

from __future__ import annotations

import ctypes
import sys
import threading

MAX_BYTES = 15
"""Longest name that the kernel keeps [bytes]."""

_PR_SET_NAME = 15


def show_thread_name(name: str | None = None) -> None:
    """Show the calling thread under its name in the system's tools; does nothing elsewhere than on Linux.

    Threads that a library starts from it inherit the name.

    Args:
        name: cut after `MAX_BYTES`; None takes that of the `threading.Thread`.
    """
    if sys.platform != "linux":
        return
    shown = (threading.current_thread().name if name is None else name).encode()[:MAX_BYTES]
    ctypes.CDLL(None).prctl(_PR_SET_NAME, shown, 0, 0, 0)
