# SPDX-License-Identifier: Apache-2.0
"""Workers end with the process that they work for, whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PARENT = """
import signal
import sys
from concurrent.futures import wait
from wam.core.worker_pool import worker_pool


def busy(fifo):
    with open(fifo, "wb", buffering=0) as line:
        line.write(b".")
        while True:
            pass


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell ignores in the background
    with worker_pool(2) as pool:
        wait([pool.submit(busy, sys.argv[1]) for _ in range(2)])
"""


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_busy_workers_end_when_their_parent_is_ended(end: signal.Signals, tmp_path: Path) -> None:
    """Two workers of a killed `wam bench seams` went on for hours, each on a core of its own."""
    script, fifo = tmp_path / "parent.py", tmp_path / "fifo"
    script.write_text(PARENT, encoding="utf-8")
    os.mkfifo(fifo)
    parent = subprocess.Popen([sys.executable, script, fifo], stderr=subprocess.DEVNULL)
    with fifo.open("rb", buffering=0) as line:
        begun = b""
        while len(begun) < 2:
            begun += line.read(2)
        parent.send_signal(end)
        assert line.read() == b"", "ends once no worker holds the other end any more"
    assert parent.wait() != 0
