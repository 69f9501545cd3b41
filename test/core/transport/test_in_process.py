# SPDX-License-Identifier: Apache-2.0
"""Hand-over within a process: nothing is copied, and what is gone cannot be read."""

from __future__ import annotations

import dataclasses
import os
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wam.core.context import ContextHeader, PlannerContext, TensorSpec, Transport
from wam.core.errors import ContextError, ContextRecycled, ContextReleased, HandleRefused
from wam.core.transport.in_process import InProcessPublisher, InProcessReader, InProcessRegistry
from wam.core.transport.numpy_codec import Arrays, NumpyCodec


class NeverCopies(NumpyCodec):
    """A codec that fails the test when a byte is written or read through it."""

    def write(self, payload: Arrays, into: memoryview) -> None:
        raise AssertionError("the in-process transport copied a payload")

    def read(self, specs: tuple[TensorSpec, ...], data: memoryview) -> Any:
        raise AssertionError("the in-process transport copied a payload")


@pytest.fixture
def registry() -> InProcessRegistry:
    return InProcessRegistry()


@pytest.fixture
def publisher(registry: InProcessRegistry) -> InProcessPublisher[Any]:
    codec = NeverCopies(bfloat16=frozenset({"v"}))
    return InProcessPublisher(codec, keep=2, max_slots=4, registry=registry)


@pytest.fixture
def reader(registry: InProcessRegistry) -> InProcessReader[Any]:
    return InProcessReader(registry=registry)


def test_the_reader_gets_the_very_arrays_that_were_published(
    publisher: Any, reader: Any, context: Any
) -> None:
    published = context(1)
    handle = publisher.publish(published)
    received = reader.open(published.header, handle).get()
    assert received is published
    for name, array in published.payload.items():
        assert received.payload[name].__array_interface__["data"] == array.__array_interface__["data"]


def test_the_handle_carries_no_payload_and_the_whole_table(publisher: Any, context: Any) -> None:
    handle = publisher.publish(context(1))
    assert handle.transport is Transport.IN_PROCESS
    assert handle.data == b""
    assert [(s.name, s.dtype, s.shape) for s in handle.specs] == [
        ("k", "float32", (2, 5, 3)),
        ("v", "bfloat16", (2, 5, 3)),
    ]


def test_a_read_after_release_raises(publisher: Any, reader: Any, context: Any) -> None:
    lease = reader.open(context(1).header, publisher.publish(context(1)))
    lease.release()
    lease.release()
    with pytest.raises(ContextReleased, match="the lease was released"):
        lease.get()
    assert publisher.leases() == 0


def test_leaving_a_with_block_gives_the_lease_back(publisher: Any, reader: Any, context: Any) -> None:
    with reader.open(context(1).header, publisher.publish(context(1))) as lease:
        assert publisher.leases() == 1
    with pytest.raises(ContextReleased):
        lease.get()


def test_a_lease_outlives_the_newest_ones(publisher: Any, reader: Any, context: Any) -> None:
    lease = reader.open(context(1).header, publisher.publish(context(1)))
    for version in range(2, 9):
        publisher.publish(context(version))
    assert lease.get().payload["k"][0, 0, 0] == 101


def test_an_unleased_context_is_forgotten_once_it_is_no_longer_among_the_newest(
    publisher: Any, reader: Any, context: Any
) -> None:
    handle = publisher.publish(context(1))
    publisher.publish(context(2))
    publisher.publish(context(3))
    with pytest.raises(ContextReleased):
        reader.open(context(1).header, handle)


def test_a_handle_whose_slot_holds_another_context_raises(publisher: Any, reader: Any, context: Any) -> None:
    handle = publisher.publish(context(1))
    for version in range(2, 5):
        publisher.publish(context(version))
    with pytest.raises(ContextRecycled, match="version 4"):
        reader.open(context(1).header, handle)


def test_closing_the_planner_ends_every_lease(publisher: Any, reader: Any, context: Any) -> None:
    handle = publisher.publish(context(1))
    lease = reader.open(context(1).header, handle)
    publisher.close()
    with pytest.raises(ContextReleased, match="retired"):
        lease.get()
    with pytest.raises(ContextReleased, match="gone"):
        reader.open(context(1).header, handle)
    with pytest.raises(ContextReleased):
        publisher.publish(context(2))


def test_a_restarted_planner_ends_the_leases_of_the_first(
    publisher: Any, reader: Any, registry: Any, context: Any, codec: Any
) -> None:
    lease = reader.open(context(1).header, publisher.publish(context(1)))
    second = InProcessPublisher(codec, registry=registry)
    with pytest.raises(ContextReleased):
        lease.get()
    assert reader.open(context(1).header, second.publish(context(1))).get().payload["k"][0, 0, 0] == 101


def test_a_planner_of_another_name_leaves_leases_alone(
    publisher: Any, reader: Any, registry: Any, context: Any, codec: Any
) -> None:
    lease = reader.open(context(1).header, publisher.publish(context(1)))
    InProcessPublisher(codec, owner="left_planner", registry=registry)
    assert lease.get().header.version == 1


def test_a_new_generation_ends_the_leases_of_the_old_one(publisher: Any, reader: Any, context: Any) -> None:
    lease = reader.open(context(7).header, publisher.publish(context(7)))
    publisher.publish(context(1, generation=2))
    with pytest.raises(ContextReleased):
        lease.get()


def test_publications_must_rise(publisher: Any, context: Any) -> None:
    publisher.publish(context(2))
    with pytest.raises(ValueError, match="must rise"):
        publisher.publish(context(2))
    with pytest.raises(ValueError, match="from 1"):
        publisher.publish(context(3, generation=0))


def test_readers_that_release_nothing_are_named_when_slots_run_out(
    publisher: Any, reader: Any, context: Any
) -> None:
    for version in range(1, 5):
        reader.open(context(version).header, publisher.publish(context(version)))
    with pytest.raises(ContextError, match="4 slots"):
        publisher.publish(context(5))
    reader.close()
    publisher.publish(context(5))


def test_a_handle_of_another_process_is_refused(publisher: Any, reader: Any, context: Any) -> None:
    handle = publisher.publish(context(1))
    other = dataclasses.replace(handle, name=handle.name.replace(f".{os.getpid()}.", ".1.", 1))
    with pytest.raises(HandleRefused, match="process 1"):
        reader.open(context(1).header, other)


def test_a_header_that_does_not_belong_to_the_handle_is_refused(
    publisher: Any, reader: Any, context: Any
) -> None:
    publisher.publish(context(1))
    handle = publisher.publish(context(2))
    with pytest.raises(HandleRefused, match="two contexts"):
        reader.open(context(1).header, handle)
    forged = dataclasses.replace(context(2).header, contract_hash="b" * 64)
    with pytest.raises(HandleRefused, match="contract hash"):
        reader.open(forged, handle)


@pytest.mark.parametrize("slot", ["99", "9999"])
def test_a_slot_that_does_not_exist_is_refused(publisher: Any, reader: Any, context: Any, slot: Any) -> None:
    handle = publisher.publish(context(1))
    parts = handle.name.split(".")
    parts[4] = slot
    with pytest.raises(HandleRefused, match="slot"):
        reader.open(context(1).header, dataclasses.replace(handle, name=".".join(parts)))


@given(name=st.text(max_size=80))
@settings(max_examples=200)
def test_no_text_is_taken_for_a_handle(name: Any) -> None:
    reader: InProcessReader[Any] = InProcessReader(registry=InProcessRegistry())
    header = ContextHeader(1, 1, 1, "a" * 64, "", 1, 1)
    handle = InProcessPublisher(NumpyCodec(), registry=InProcessRegistry()).publish(
        PlannerContext(header, {"k": np.zeros(1)})
    )
    with pytest.raises(HandleRefused):
        reader.open(header, dataclasses.replace(handle, name=name))


@given(
    steps=st.lists(
        st.one_of(
            st.just(("publish", 0)),
            st.tuples(st.just("open"), st.integers(0, 20)),
            st.tuples(st.just("release"), st.integers(0, 20)),
            st.just(("generation", 0)),
            st.just(("restart", 0)),
        ),
        max_size=40,
    )
)
@settings(max_examples=150)
def test_no_order_of_events_ever_shows_another_context(steps: Any) -> None:
    """Whatever is published, opened, released and restarted: a lease shows its own context or raises."""
    registry = InProcessRegistry()
    codec = NumpyCodec()
    publisher: InProcessPublisher[Any] = InProcessPublisher(codec, max_slots=4, registry=registry)
    reader: InProcessReader[Any] = InProcessReader(registry=registry)
    generation = version = mark = 0
    handles: list[tuple[ContextHeader, Any, int]] = []
    leases: list[tuple[Any, int]] = []
    generation = 1
    for what, index in steps:
        if what == "publish":
            version += 1
            mark += 1
            header = ContextHeader(mark, generation, version, "a" * 64, "", 1, 1)
            try:
                handle = publisher.publish(PlannerContext(header, {"k": np.full(4, mark)}))
            except ContextError:
                continue
            handles.append((header, handle, mark))
        elif what == "open" and handles:
            header, handle, expected = handles[index % len(handles)]
            try:
                leases.append((reader.open(header, handle), expected))
            except (ContextReleased, ContextRecycled):
                continue
        elif what == "release" and leases:
            leases[index % len(leases)][0].release()
        elif what == "generation":
            generation, version = generation + 1, 0
        elif what == "restart":
            publisher = InProcessPublisher(codec, max_slots=4, registry=registry)
            generation, version = 1, 0
        for lease, expected in leases:
            try:
                seen = lease.get().payload["k"]
            except ContextReleased:
                continue
            assert set(seen.tolist()) == {expected}


def test_threads_that_publish_open_and_release_see_whole_contexts(
    publisher: Any, reader: Any, context: Any
) -> None:
    """A lock left out of the slot table showed as a context of two publications."""
    newest: list[Any] = [None]
    finished = threading.Event()
    wrong: list[str] = []

    def read() -> None:
        while not finished.is_set():
            offered = newest[0]
            if offered is None:
                continue
            published, handle = offered
            try:
                with reader.open(published.header, handle) as lease:
                    if lease.get() is not published:
                        wrong.append(f"{published.header.version}")
            except (ContextReleased, ContextRecycled):
                continue

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for version in range(1, 400):
        published = context(version)
        newest[0] = (published, publisher.publish(published))
    finished.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert publisher.leases() == 0
