# SPDX-License-Identifier: Apache-2.0
"""Shared memory between real processes, and what is left when one of them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wam.core.context import ContextHandle, TensorSpec, Transport
from wam.core.errors import ContextReleased
from wam.core.transport.identity import ProcessIdentity, is_alive, this_process
from wam.core.transport.segment import SegmentName
from wam.core.transport.shared_memory import SharedMemoryPublisher, SharedMemoryReader
from wam.core.transport.slots import sweep


def segments(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if not path.name.endswith(".owner"))


def as_request(handle: ContextHandle) -> dict[str, object]:
    specs = [[s.name, s.dtype, list(s.shape), s.byte_offset] for s in handle.specs]
    return {"name": handle.name, "total_bytes": handle.total_bytes, "specs": specs}


def as_handle(answer: dict) -> ContextHandle:
    specs = tuple(TensorSpec(n, d, tuple(s), o) for n, d, s, o in answer["specs"])
    return ContextHandle(Transport.SHARED_MEMORY, answer["name"], specs, answer["total_bytes"])


@pytest.fixture
def publisher(codec, tmp_path):
    made = SharedMemoryPublisher(codec, keep=2, max_slots=4, directory=tmp_path)
    yield made
    made.close()


@pytest.fixture
def reader(codec, tmp_path):
    return SharedMemoryReader(codec, directory=tmp_path)


def test_a_context_crosses_to_another_process(peer: Any, publisher: Any, context: Any) -> None:
    other = peer()
    handle = as_request(publisher.publish(context(1)))
    assert other.ask("open", handle=handle, version=1) == [101.0]
    assert publisher.leases() == 1
    other.ask("release")
    assert publisher.leases() == 0
    assert other.ask("get")["error"] == "ContextReleased"


def test_a_handle_that_comes_late_is_recycled(peer: Any, publisher: Any, context: Any) -> None:
    other = peer()
    late = as_request(publisher.publish(context(1)))
    for version in range(2, 5):
        publisher.publish(context(version))
    assert other.ask("open", handle=late, version=1)["error"] == "ContextRecycled"


def test_a_view_in_another_process_keeps_its_slot(peer: Any, publisher: Any, context: Any) -> None:
    """The lease was back, the planner wrote the slot again, and the executor's tensors changed under it."""
    other = peer()
    other.ask("open", handle=as_request(publisher.publish(context(1))), version=1)
    other.ask("hold_view")
    other.ask("release")
    for version in range(2, 12):
        publisher.publish(context(version))
    assert other.ask("read_view") == [101.0]
    assert publisher.leases() == 1
    other.ask("drop_view")
    assert publisher.leases() == 0


def test_a_killed_reader_loses_its_lease(peer: Any, publisher: Any, context: Any) -> None:
    other = peer()
    other.ask("open", handle=as_request(publisher.publish(context(1))), version=1)
    other.ask("hold_view")
    assert publisher.leases() == 1
    other.kill()
    assert publisher.leases() == 0


def test_a_killed_planner_leaves_nothing_after_the_next_start(
    peer: Any, reader: Any, codec: Any, context: Any, header: Any, tmp_path: Path
) -> None:
    first = peer()
    answer = first.ask("publish", version=1)
    first.ask("publish", version=2)
    lease = reader.open(header(1), as_handle(answer))
    first.kill()
    assert len(segments(tmp_path)) == 2, "the kill left nothing behind, so the test shows nothing"
    assert lease.get().payload["k"][0, 0, 0] == 101, (
        "until a planner starts, the data are still those published"
    )

    successor = SharedMemoryPublisher(codec, directory=tmp_path)
    assert segments(tmp_path) == []
    assert answer["name"] in successor.swept
    with pytest.raises(ContextReleased, match="retired"):
        lease.get()
    with pytest.raises(ContextReleased):
        reader.open(header(1), as_handle(answer))
    fresh = successor.publish(context(1))
    assert reader.open(header(1), fresh).get().payload["k"][0, 0, 0] == 101
    successor.close()
    assert list(tmp_path.iterdir()) == []


def test_a_planner_killed_in_the_middle_of_a_write_leaves_nothing_readable(
    peer: Any, publisher: Any, tmp_path: Path, header: Any
) -> None:
    other = peer()
    answer = other.ask("publish", version=1)
    path = tmp_path / answer["name"]
    with path.open("r+b") as file:
        file.seek(192)
        file.write((0x57524954).to_bytes(4, sys.byteorder))  # the state word while a payload is written
    assert peer().ask("open", handle=answer, version=1)["error"] == "ContextReleased"


def test_a_live_planner_is_not_swept(peer: Any, codec: Any, header: Any, tmp_path: Path) -> None:
    other = peer()
    answer = other.ask("publish", version=1)
    successor = SharedMemoryPublisher(codec, owner="another", directory=tmp_path)
    assert successor.swept == ()
    reader: SharedMemoryReader = SharedMemoryReader(codec, directory=tmp_path)
    assert reader.open(header(1), as_handle(answer)).get().header.version == 1
    successor.close()


def test_a_planner_of_another_pid_namespace_is_not_swept_while_it_holds_its_lock(
    peer: Any, header: Any, tmp_path: Path
) -> None:
    """Two containers share /dev/shm: the pid of the other one's planner means nothing here."""
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, sys\nf = open(sys.argv[1], 'w')\nfcntl.flock(f, fcntl.LOCK_EX)\n"
            "print('held', flush=True)\nsys.stdin.read()",
            str(tmp_path / f"wam_ctx.{os.geteuid()}.1.1.{'0' * 16}.owner"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    foreign = tmp_path / f"wam_ctx.{os.geteuid()}.1.1.{'0' * 16}.0"
    foreign.write_bytes(b"\0" * 8192)
    assert sweep(tmp_path) == ()
    assert foreign.exists()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert len(sweep(tmp_path)) == 2
    assert list(tmp_path.iterdir()) == []


FORKING = """
import os, sys
from pathlib import Path
import numpy as np
from wam.core.context import ContextHeader, PlannerContext
from wam.core.transport.numpy_codec import NumpyCodec
from wam.core.transport.shared_memory import SharedMemoryPublisher
directory = Path(sys.argv[1])
publisher = SharedMemoryPublisher(NumpyCodec(), directory=directory)
publisher.publish(PlannerContext(ContextHeader(1, 1, 1, "a" * 64, "", 1, 1), {"k": np.zeros(3)}))
child = os.fork()
if child == 0:
    sys.exit(0)
os.waitpid(child, 0)
print(len(list(directory.iterdir())))
"""


def test_a_forked_child_that_exits_leaves_the_segments_and_the_parent_removes_them(tmp_path: Path) -> None:
    """Clean-up at the exit of a data-loading child took the planner's memory away."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "2\n"
    assert list(tmp_path.iterdir()) == []


def test_sweeping_touches_no_file_of_another_name_or_user(tmp_path: Path) -> None:
    dead = ProcessIdentity(2**22 + 1, 1)
    kept = [
        tmp_path / "psm_cafe",
        tmp_path / "wam_ctx.notes",
        tmp_path / str(SegmentName(os.geteuid() + 1, dead, "0" * 16, "0")),
        tmp_path / str(SegmentName(os.geteuid(), this_process(), "0" * 16, "0")),
    ]
    for path in kept:
        path.write_bytes(b"somebody's")
    left_over = tmp_path / str(SegmentName(os.geteuid(), dead, "0" * 16, "0"))
    left_over.write_bytes(b"not even a header")
    assert sweep(tmp_path) == (left_over.name,)
    assert all(path.read_bytes() == b"somebody's" for path in kept)


def test_sweeping_a_link_removes_the_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_bytes(b"\0" * 8192)
    link = tmp_path / str(SegmentName(os.geteuid(), ProcessIdentity(2**22 + 1, 1), "0" * 16, "0"))
    link.symlink_to(target)
    sweep(tmp_path)
    assert not link.is_symlink()
    assert target.read_bytes() == b"\0" * 8192


def test_a_pid_that_was_used_again_is_another_process() -> None:
    me = this_process()
    assert is_alive(me)
    assert not is_alive(ProcessIdentity(me.pid, me.start_ticks + 1))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_zombie_is_dead() -> None:
    """A killed planner whose launcher had not reaped it kept its shared memory."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    stat = Path(f"/proc/{child}/stat").read_text()
    identity = ProcessIdentity(child, int(stat.rpartition(")")[2].split()[19]))
    assert not is_alive(identity)
    os.waitpid(child, 0)
    assert not is_alive(identity)
