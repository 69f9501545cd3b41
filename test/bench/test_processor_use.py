# SPDX-License-Identifier: Apache-2.0
"""Processor time by thread name, from a made-up procfs and from this process."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from wam.bench.processor_use import ProcessorUse, part_of, thread_use
from wam.ros.worker import Worker

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def write_stat(folder: Path, name: str, seconds: float) -> None:
    """Write a `stat` file of a thread that has used so much [s]."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = ["S", *["0"] * 10, str(round(seconds * TICKS_PER_S)), "0", *["0"] * 30]
    (folder / "stat").write_text(f"{folder.name} ({name}) {' '.join(fields)}\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A procfs with one process, 7."""
    write_stat(tmp_path / "7", "python", 10.0)
    for number, name, seconds in (
        (7, "python", 2.0),
        (8, "dds.shm.7", 1.0),
        (9, "dds.ev.1", 0.5),
        (10, "camera (left) 2", 3.0),
        (11, "python", 0.5),
    ):
        write_stat(tmp_path / "7" / "task" / str(number), name, seconds)
    return tmp_path


def test_threads_are_added_up_by_name_and_those_that_ended_belong_to_the_others(proc: Path) -> None:
    assert thread_use(7, proc) == {"callbacks": 2.0, "dds": 1.5, "camera_left": 3.0, "other": 3.5}


def test_a_process_that_has_ended_has_no_use(proc: Path) -> None:
    assert thread_use(8, proc) == {}


@pytest.mark.parametrize(
    ("thread", "part"),
    [
        ("dds.udp.7412", "dds"),
        ("llvmpipe-0", "llvmpipe"),
        ("python3.11", "other"),
        ("wam_recorder", "wam_recorder"),
        ("commands", "commands"),
        ("123", "other"),
    ],
)
def test_a_part_is_named_by_the_words_of_its_threads(thread: str, part: str) -> None:
    assert part_of(thread) == part


def test_time_in_a_pause_does_not_count() -> None:
    use = ProcessorUse()
    use.sample({"sim": {"physics": 5.0}}, at_ns=0)
    use.sample({"sim": {"physics": 6.0, "dds": 1.0}}, at_ns=2_000_000_000)
    use.pause()
    use.sample({"sim": {"physics": 60.0, "dds": 1.0}}, at_ns=90_000_000_000)
    use.sample({"sim": {"physics": 62.0, "dds": 1.0}}, at_ns=92_000_000_000)
    assert use.cores() == {"sim": {"physics": 0.75, "dds": 0.25}}


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="there is no procfs")
def test_the_thread_of_a_worker_is_found_by_its_name() -> None:
    seen = threading.Event()
    worker = Worker("physics", seen.set, period=None, on_error=lambda error: None)
    worker.start()
    worker.wake()
    assert seen.wait(20.0)
    assert "physics" in thread_use(os.getpid())
    worker.stop(timeout=20.0)
