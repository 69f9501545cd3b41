# SPDX-License-Identifier: Apache-2.0
"""A recording is readable however it ended: closed, killed, or refused by the disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rosbags.highlevel import AnyReader

from wam.core.errors import RecordingError
from wam.data.bag.reading import Recording
from wam.data.bag.record import FLUSH_NS, RecordFile
from wam.data.bag.writing import BagWriter

STATUS = "float64[] values\nstring reason\n"
PERIOD_NS = 10_000_000


def texts(bag: Path, *, lenient: bool = False) -> list[str]:
    with Recording(bag, lenient=lenient) as recording:
        return [message.message.data for message in recording.messages(["/instruction"])]


def test_a_closed_recording_is_a_plain_rosbag2_with_its_facts(tmp_path: Path) -> None:
    file = RecordFile(
        tmp_path / "bag", metadata={"wam.robot": "fake"}, definitions={"lab_msgs/msg/Status": STATUS}
    )
    file.note({"wam.contract_hash": "abc"})
    BagWriter(file).text("/instruction", 5, "fold the towel")
    file.write("/status", "lab_msgs/msg/Status", _status(), 7)
    file.close()
    file.close()
    with Recording(tmp_path / "bag") as recording:
        assert recording.custom == {"wam.robot": "fake", "wam.contract_hash": "abc"}
        assert recording.warnings == recording.skipped == ()
        message = next(recording.messages(["/status"])).message
        assert (list(message.values), message.reason) == ([1.5], "ok")
    with AnyReader([tmp_path / "bag"]) as reader:
        assert {c.topic: c.msgcount for c in reader.connections} == {"/instruction": 1, "/status": 1}


def _status() -> bytes:
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(STATUS, "lab_msgs/msg/Status"))
    import numpy as np

    message = store.types["lab_msgs/msg/Status"](values=np.array([1.5]), reason="ok")
    return bytes(store.serialize_cdr(message, "lab_msgs/msg/Status"))


WRITER = """
import sys
from pathlib import Path
from wam.data.bag.record import RecordFile
from wam.data.bag.writing import BagWriter
writer = BagWriter(RecordFile(Path(sys.argv[1]), metadata={"wam.robot": "fake"}))
for i in range(10**9):
    writer.text("/instruction", i * 10_000_000, f"{i} " + 500 * "x")
    print(i, flush=True)
"""


def test_a_killed_recording_lacks_less_than_its_last_second(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "bag")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    last = 0
    for line in process.stdout:
        last = int(line)
        if last >= 1234:
            break
    os.kill(process.pid, signal.SIGKILL)
    # The pipe holds what was written between the last line read and the kill.
    last = max([last, *(int(line) for line in process.stdout.read().splitlines() if line)])
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "bag" / "metadata.yaml").exists()
    found = [int(text.split()[0]) for text in texts(tmp_path / "bag", lenient=True)]
    assert found == list(range(len(found)))
    assert (last - found[-1]) * PERIOD_NS <= 1_000_000_000


FILLER = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
from wam.core.errors import RecordingError
from wam.data.bag.record import RecordFile
from wam.data.bag.writing import BagWriter
file = RecordFile(Path(sys.argv[1]), metadata={})
writer = BagWriter(file)
try:
    for i in range(10_000):
        writer.text("/instruction", i * 10_000_000, f"{i} " + 500 * "x")
except RecordingError as error:
    print(error)
    file.close()
    sys.exit(7)
"""


def test_a_full_disk_ends_the_recording_with_an_error_and_keeps_what_was_written(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILLER, str(tmp_path / "bag")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 7, done.stderr
    assert "the disk does not take more (File too large)" in done.stdout
    found = [int(text.split()[0]) for text in texts(tmp_path / "bag", lenient=True)]
    assert found == list(range(len(found)))
    # 200 kB hold some 330 texts; all but the chunk that did not fit are there.
    assert len(found) >= 300 - FLUSH_NS // PERIOD_NS


def test_an_existing_folder_is_not_recorded_into(tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    with pytest.raises(RecordingError, match=r"cannot be made \(File exists\)"):
        RecordFile(tmp_path / "bag", metadata={})
