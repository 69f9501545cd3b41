# SPDX-License-Identifier: Apache-2.0
"""The checks of `wam doctor` on time: is the clock synchronised, and may a thread run in real time."""

from __future__ import annotations

import ctypes
import platform
import re
import resource
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wam.cli.machine_check import Check, Outcome
from wam.runtime.safety.stream import COMMAND_PRIORITY, ask_for_realtime

STA_UNSYNC = 0x40
"""Bit of the kernel's clock status (`adjtimex(2)`): nothing disciplines the clock."""

CLOCK_ERROR = 5
"""Return value of `adjtimex(2)` for a clock that is not synchronised."""

MAX_OFFSET_S = 0.005
"""A clock further off is reported [s]: 5 ms of the 100 ms that joint states may be old."""

ANSWER_S = 3.0
"""Longest wait for a daemon's answer [s]."""

REALTIME_FILE = Path("/sys/kernel/realtime")
HOW_TO = "docs/how-to/two-computers.md"
REALTIME_HOW_TO = "docs/how-to/real-time.md"

Ask = Callable[[Sequence[str]], str]
"""Runs a command and returns what it writes; "" where it is not installed, fails or does not answer."""


@dataclass(frozen=True, slots=True)
class KernelClock:
    """What the kernel says of its clock.

    Attributes:
        synchronised: whether something disciplines it.
        max_error_s: bound of its error [s]; meaningful only while it is synchronised.
    """

    synchronised: bool
    max_error_s: float


class _Timex(ctypes.Structure):
    """Beginning of `struct timex` of Linux, and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def kernel_clock() -> KernelClock | None:
    """Return what `adjtimex(2)` says, changing nothing; None where there is no such call."""
    found = _Timex()
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.byref(found))
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    synchronised = state != CLOCK_ERROR and not found.status & STA_UNSYNC
    return KernelClock(synchronised, found.maxerror / 1e6)


def ask(command: Sequence[str]) -> str:
    """Run a command; see `Ask`."""
    # Daemons' tools are in sbin, which is not on everybody's path.
    program = shutil.which(command[0]) or shutil.which(command[0], path="/usr/sbin:/sbin")
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, *command[1:]],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def chrony_offset_s(answer: str) -> float | None:
    """Return the distance of the clock from NTP time [s] in an answer of `chronyc -c tracking`, None without a source.

    Fields: reference, its name, stratum, time of the last update, offset, ..., leap status.
    """
    fields = answer.strip().split(",")
    if len(fields) < 14 or fields[13] == "Not synchronised":
        return None
    try:
        return abs(float(fields[4]))
    except ValueError:
        return None


def ptp_offset_s(answer: str) -> float | None:
    """Return the distance from the PTP master [s] in an answer of pmc's GET TIME_STATUS_NP, None without a master."""
    offset = re.search(r"^\s*master_offset\s+(-?\d+)", answer, re.MULTILINE)
    present = re.search(r"^\s*gmPresent\s+true", answer, re.MULTILINE)
    return abs(int(offset[1])) / 1e9 if offset and present else None


def clock_check(kernel: KernelClock | None = None, *, asking: Ask = ask) -> Check:
    """Say whether this computer's clock is synchronised, and how far off chrony or PTP have it.

    Args:
        kernel: what the kernel says; None asks it.
        asking: asks the daemons.
    """
    kernel = kernel or kernel_clock()
    synchronised = kernel is not None and kernel.synchronised
    parts = ["synchronised" if synchronised else "not synchronised"]
    if kernel is not None:
        parts[0] += (
            f" (kernel: at most {kernel.max_error_s * 1e3:.1f} ms off)" if synchronised else " (kernel)"
        )
    offsets = {
        "chrony": chrony_offset_s(asking(["chronyc", "-c", "tracking"])),
        "PTP": ptp_offset_s(asking(["pmc", "-u", "-b", "0", "GET TIME_STATUS_NP"])),
    }
    parts += [f"{name}: {value * 1e3:.3f} ms off" for name, value in offsets.items() if value is not None]
    worst = max((value for value in offsets.values() if value is not None), default=0.0)
    found = ", ".join(parts)
    if worst > MAX_OFFSET_S:
        return Check("clock", Outcome.WARN, found, f"wait until it has settled; chronyc makestep ({HOW_TO})")
    if not synchronised and all(value is None for value in offsets.values()):
        remedy = f"with a driver on another computer: sudo apt install chrony on both ({HOW_TO})"
        return Check("clock", Outcome.WARN, found, remedy)
    return Check("clock", Outcome.OK, found)


def realtime_check(*, allowed: Callable[[], bool] | None = None, version: str = "") -> Check:
    """Say whether the command thread gets its real-time priority, and whether the kernel is a real-time kernel.

    Args:
        allowed: tries the priority; None does so.
        version: of the kernel; "" asks.
    """
    may = (allowed or may_run_in_realtime)()
    preempt = "PREEMPT_RT" in (version or platform.version()) or _reads(REALTIME_FILE) == "1"
    limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    found = f"SCHED_FIFO {COMMAND_PRIORITY} {'allowed' if may else f'refused (rtprio limit {limit})'}, "
    found += "PREEMPT_RT kernel" if preempt else "kernel without PREEMPT_RT"
    remedies = []
    if not may:
        remedies.append(
            "the command stream runs at normal priority: sudo groupadd realtime; sudo usermod -aG realtime $USER; put "
            "`@realtime - rtprio 98` and `@realtime - memlock unlimited` into /etc/security/limits.d/realtime.conf; "
            f"log in again ({REALTIME_HOW_TO})"
        )
    if not preempt:
        remedies.append(
            "a driver at 500-1000 Hz (Franka, UR) wants a real-time kernel on its computer: "
            f"sudo pro enable realtime-kernel, or a kernel built with PREEMPT_RT ({REALTIME_HOW_TO})"
        )
    outcome = Outcome.WARN if not may else Outcome.OK if preempt else Outcome.INFO
    return Check("real time", outcome, found, "\n".join(remedies))


def may_run_in_realtime() -> bool:
    """Return whether a thread gets the priority of the command thread; tried in one that ends with the answer."""
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(ask_for_realtime(COMMAND_PRIORITY)))
    thread.start()
    thread.join()
    return answers == [True]


def _reads(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
