# SPDX-License-Identifier: Apache-2.0
"""Hand-over through shared memory within one process: leases, slots and what a stale view can show."""

from __future__ import annotations

import dataclasses
import fcntl
import gc
import os
import stat
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wam.core.context import ContextHeader, PlannerContext, Transport
from wam.core.errors import ConfigError, ContextError, ContextRecycled, ContextReleased
from wam.core.transport import segment
from wam.core.transport.numpy_codec import NumpyCodec
from wam.core.transport.shared_memory import SharedMemoryPublisher, SharedMemoryReader


@pytest.fixture
def publisher(codec, tmp_path):
    made = SharedMemoryPublisher(codec, keep=2, max_slots=4, directory=tmp_path)
    yield made
    made.close()


@pytest.fixture
def reader(codec, tmp_path):
    return SharedMemoryReader(codec, directory=tmp_path)


def test_the_reader_sees_the_tensors_where_they_lie(publisher: Any, reader: Any, context: Any) -> None:
    published = context(3)
    handle = publisher.publish(published)
    received = reader.open(published.header, handle).get()
    assert handle.transport is Transport.SHARED_MEMORY
    assert received.header == published.header
    for name, array in published.payload.items():
        np.testing.assert_array_equal(received.payload[name], array)


def test_the_reader_cannot_write(publisher: Any, reader: Any, context: Any) -> None:
    received = reader.open(context(1).header, publisher.publish(context(1))).get()
    with pytest.raises(ValueError, match="read-only"):
        received.payload["k"][0] = 0.0


def test_a_segment_is_a_private_file(publisher: Any, context: Any, tmp_path: Path) -> None:
    handle = publisher.publish(context(1))
    assert stat.S_IMODE((tmp_path / handle.name).stat().st_mode) == 0o600


def test_a_read_after_release_raises(publisher: Any, reader: Any, context: Any) -> None:
    lease = reader.open(context(1).header, publisher.publish(context(1)))
    assert publisher.leases() == 1
    lease.release()
    lease.release()
    assert publisher.leases() == 0
    with pytest.raises(ContextReleased, match="the lease was released"):
        lease.get()


def test_closing_the_reader_gives_every_lease_back(publisher: Any, reader: Any, context: Any) -> None:
    with reader.open(context(1).header, publisher.publish(context(1))) as first:
        second = reader.open(context(2).header, publisher.publish(context(2)))
        reader.close()
        for lease in (first, second):
            with pytest.raises(ContextReleased):
                lease.get()
    assert publisher.leases() == 0


def test_a_recycled_slot_raises(publisher: Any, reader: Any, context: Any) -> None:
    handle = publisher.publish(context(1))
    names = [publisher.publish(context(version)).name for version in range(2, 5)]
    assert handle.name in names, "the slot was not used again, so the test shows nothing"
    with pytest.raises(ContextRecycled):
        reader.open(context(1).header, handle)


def test_a_leased_slot_is_never_written(publisher: Any, reader: Any, context: Any) -> None:
    lease = reader.open(context(1).header, publisher.publish(context(1)))
    for version in range(2, 30):
        publisher.publish(context(version))
    assert set(lease.get().payload["k"].ravel().tolist()) == {101.0}


def test_a_view_held_after_release_never_shows_another_context(
    publisher: Any, reader: Any, context: Any
) -> None:
    """A slot rewritten under a view that outlived its lease would feed one chunk from two contexts."""
    lease = reader.open(context(1).header, publisher.publish(context(1)))
    view = lease.get().payload["k"]
    lease.release()
    for version in range(2, 30):
        publisher.publish(context(version))
        assert set(view.ravel().tolist()) == {101.0}
    assert publisher.leases() == 1
    del view
    assert publisher.leases() == 0


def test_a_view_held_past_the_planner_shows_what_it_showed(publisher: Any, reader: Any, context: Any) -> None:
    view = reader.open(context(1).header, publisher.publish(context(1))).get().payload["k"]
    publisher.close()
    assert set(view.ravel().tolist()) == {101.0}


def test_closing_the_planner_ends_every_lease_and_leaves_no_file(
    publisher: Any, reader: Any, context: Any, tmp_path: Path
) -> None:
    handle = publisher.publish(context(1))
    lease = reader.open(context(1).header, handle)
    publisher.close()
    publisher.close()
    with pytest.raises(ContextReleased, match="retired"):
        lease.get()
    with pytest.raises(ContextReleased):
        reader.open(context(1).header, handle)
    with pytest.raises(ContextReleased):
        publisher.publish(context(2))
    assert list(tmp_path.iterdir()) == []


def test_a_planner_configured_anew_in_the_same_process_ends_older_leases(
    publisher: Any, reader: Any, context: Any, codec: Any, tmp_path: Path
) -> None:
    lease = reader.open(context(1).header, publisher.publish(context(1)))
    second = SharedMemoryPublisher(codec, directory=tmp_path)
    with pytest.raises(ContextReleased):
        lease.get()
    assert reader.open(context(1).header, second.publish(context(1))).get().header.version == 1
    second.close()


def test_two_planners_of_two_names_live_side_by_side(
    publisher: Any, reader: Any, context: Any, codec: Any, tmp_path: Path
) -> None:
    lease = reader.open(context(1).header, publisher.publish(context(1)))
    other = SharedMemoryPublisher(codec, owner="/left/wam_planner", directory=tmp_path)
    other.publish(context(1))
    assert lease.get().header.version == 1
    other.close()


def test_a_forgotten_publisher_leaves_no_file(codec: Any, context: Any, tmp_path: Path) -> None:
    publisher = SharedMemoryPublisher(codec, owner="forgotten", directory=tmp_path)
    publisher.publish(context(1))
    del publisher
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_new_generation_ends_the_leases_of_the_old_one(publisher: Any, reader: Any, context: Any) -> None:
    handle = publisher.publish(context(7))
    lease = reader.open(context(7).header, handle)
    publisher.publish(context(1, generation=2))
    with pytest.raises(ContextReleased):
        lease.get()
    with pytest.raises(ContextReleased):
        reader.open(context(7).header, handle)


def test_the_newest_contexts_survive_without_a_lease(publisher: Any, reader: Any, context: Any) -> None:
    handles = [publisher.publish(context(version)) for version in range(1, 6)]
    for version in (4, 5):
        assert reader.open(context(version).header, handles[version - 1]).get().header.version == version


def test_readers_that_release_nothing_are_named_when_slots_run_out(
    publisher: Any, reader: Any, context: Any
) -> None:
    for version in range(1, 5):
        reader.open(context(version).header, publisher.publish(context(version)))
    with pytest.raises(ContextError, match="4 slots"):
        publisher.publish(context(5))
    reader.close()
    publisher.publish(context(5))


def test_a_larger_payload_gets_a_larger_segment(
    publisher: Any, reader: Any, context: Any, tmp_path: Path
) -> None:
    for version in range(1, 5):
        publisher.publish(context(version))
    for version in range(5, 9):
        larger = context(version, rows=4000)
        received = reader.open(larger.header, publisher.publish(larger)).get().payload["k"]
        np.testing.assert_array_equal(received, larger.payload["k"])
        del received
        reader.close()
    assert len(list(tmp_path.iterdir())) <= 5


def test_a_codec_that_fails_leaves_the_slot_unreadable_and_free(
    publisher: Any, reader: Any, context: Any, codec: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    handle = publisher.publish(context(1))

    def fail(payload: Any, into: memoryview) -> None:
        into[:4] = b"junk"
        raise OSError("no such device")

    with monkeypatch.context() as patch:
        patch.setattr(codec, "write", fail)
        with pytest.raises(OSError, match="no such device"):
            publisher.publish(context(2))
    for path in tmp_path.glob("wam_ctx.*.[0-9]"):
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert reader.open(context(1).header, handle).get().payload["k"][0, 0, 0] == 101
    third = publisher.publish(context(3))
    assert reader.open(context(3).header, third).get().payload["k"][0, 0, 0] == 103


def test_full_shared_memory_is_an_error_that_names_it(
    codec: Any, context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the reservation the planner died of SIGBUS in the middle of a write."""
    publisher = SharedMemoryPublisher(codec, directory=tmp_path)

    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(segment.os, "posix_fallocate", full)
    with pytest.raises(ContextError, match="--shm-size"):
        publisher.publish(context(1))
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".owner")] == []
    monkeypatch.undo()
    publisher.publish(context(1))
    publisher.close()


def test_a_segment_that_could_not_grow_does_not_block_its_successors(
    publisher: Any, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of the segment given up was counted from the number left, and taken already."""
    for version in range(1, 5):
        publisher.publish(context(version))

    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(segment.os, "posix_fallocate", full)
        with pytest.raises(ContextError, match="no space"):
            publisher.publish(context(5, rows=4000))
    publisher.publish(context(5))


def test_a_system_without_shared_memory_is_told_so(codec: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in_process or inline"):
        SharedMemoryPublisher(codec, directory=tmp_path / "absent")


def test_counting_leases_never_turns_a_reader_away(publisher: Any, reader: Any, context: Any) -> None:
    """The owner's look at the lock made a reader that opened at that moment believe in a rewrite."""
    handle = publisher.publish(context(1))
    stop = threading.Event()

    def count() -> None:
        while not stop.is_set():
            publisher.leases()

    thread = threading.Thread(target=count)
    thread.start()
    try:
        for _ in range(500):
            reader.open(context(1).header, handle).release()
    finally:
        stop.set()
        thread.join()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_neither_publishes_nor_removes(
    publisher: Any, reader: Any, context: Any, tmp_path: Path
) -> None:
    """A child that ends normally ran the parent's clean-up and took its segments away."""
    handle = publisher.publish(context(1))
    child = os.fork()
    if child == 0:
        try:
            publisher.publish(context(2))
            code = 1
        except ContextReleased:
            publisher.close()
            code = 0
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert reader.open(context(1).header, handle).get().header.version == 1


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["publish", "open", "view", "release", "drop", "restart"]), st.integers(0, 20)
        ),
        max_size=30,
    )
)
@settings(max_examples=60)
def test_no_order_of_events_ever_shows_another_context(
    tmp_path_factory: pytest.TempPathFactory, steps: Any
) -> None:
    """Whatever is published, opened, kept, released and restarted: a lease or a view shows its own data."""
    directory: Path = tmp_path_factory.mktemp("segments")
    codec = NumpyCodec()
    publisher = SharedMemoryPublisher(codec, max_slots=4, directory=directory)
    reader: SharedMemoryReader[Any] = SharedMemoryReader(codec, directory=directory)
    version = mark = 0
    handles: list[tuple[ContextHeader, Any, int]] = []
    leases: list[tuple[Any, int]] = []
    views: list[tuple[Any, int]] = []
    for what, index in steps:
        if what == "publish":
            version += 1
            mark += 1
            header = ContextHeader(mark, 1, version, "a" * 64, "", 1, 1)
            payload = {"k": np.full(50, mark, dtype=np.int64)}
            try:
                handles.append((header, publisher.publish(PlannerContext(header, payload)), mark))
            except ContextError:
                version -= 1
        elif what == "open" and handles:
            header, handle, expected = handles[index % len(handles)]
            try:
                leases.append((reader.open(header, handle), expected))
            except (ContextReleased, ContextRecycled):
                continue
        elif what == "view" and leases:
            lease, expected = leases[index % len(leases)]
            try:
                views.append((lease.get().payload["k"], expected))
            except ContextReleased:
                continue
        elif what == "release" and leases:
            leases[index % len(leases)][0].release()
        elif what == "drop" and views:
            del views[index % len(views)]
        elif what == "restart":
            publisher.close()
            publisher, version = SharedMemoryPublisher(codec, max_slots=4, directory=directory), 0
        for lease, expected in leases:
            try:
                assert set(lease.get().payload["k"].tolist()) == {expected}
            except ContextReleased:
                continue
        for view, expected in views:
            assert set(view.tolist()) == {expected}
    publisher.close()
    assert list(directory.iterdir()) == []


def test_a_header_that_does_not_belong_to_the_handle_is_recycled(
    publisher: Any, reader: Any, context: Any
) -> None:
    publisher.publish(context(1))
    handle = publisher.publish(context(2))
    with pytest.raises(ContextRecycled):
        reader.open(context(1).header, handle)


def test_a_table_that_was_not_written_is_refused(publisher: Any, reader: Any, context: Any) -> None:
    handle = publisher.publish(context(1))
    k, v = handle.specs
    swapped = dataclasses.replace(handle, specs=(dataclasses.replace(k, dtype="int32"), v))
    with pytest.raises(ContextError, match="tensor table"):
        reader.open(context(1).header, swapped)
