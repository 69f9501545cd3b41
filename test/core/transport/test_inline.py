# SPDX-License-Identifier: Apache-2.0
"""Hand-over inside the message, for a planner on another machine."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from wam.core.context import Transport
from wam.core.errors import ContextError, ContextRecycled, ContextReleased, HandleRefused
from wam.core.transport.inline import InlinePublisher, InlineReader


@pytest.fixture
def publisher(codec):
    return InlinePublisher(codec)


@pytest.fixture
def reader(codec):
    return InlineReader(codec)


def test_the_payload_travels_in_the_handle(publisher: Any, reader: Any, context: Any) -> None:
    published = context(1)
    handle = publisher.publish(published)
    assert handle.transport is Transport.INLINE
    assert len(handle.data) == handle.total_bytes
    received = reader.open(published.header, handle).get()
    for name, array in published.payload.items():
        np.testing.assert_array_equal(received.payload[name], array)
        assert not received.payload[name].flags.writeable


def test_a_payload_over_the_limit_names_both_sizes(codec: Any, context: Any) -> None:
    with pytest.raises(ContextError, match=r"188 bytes.*at most 100 bytes"):
        InlinePublisher(codec, limit_bytes=100).publish(context(1))


def test_a_read_after_release_raises(publisher: Any, reader: Any, context: Any) -> None:
    lease = reader.open(context(1).header, publisher.publish(context(1)))
    lease.release()
    with pytest.raises(ContextReleased):
        lease.get()


def test_a_new_planner_ends_the_leases_of_the_old_one_and_its_late_messages(
    publisher: Any, reader: Any, codec: Any, context: Any
) -> None:
    late = publisher.publish(context(1))
    lease = reader.open(context(2).header, publisher.publish(context(2)))
    successor = InlinePublisher(codec)
    fresh = reader.open(context(1).header, successor.publish(context(1)))
    with pytest.raises(ContextReleased):
        lease.get()
    with pytest.raises(ContextReleased, match="replaced"):
        reader.open(context(1).header, late)
    assert fresh.get().header.version == 1


def test_a_new_generation_ends_the_leases_of_the_old_one_and_its_late_messages(
    publisher: Any, reader: Any, context: Any
) -> None:
    late = publisher.publish(context(1))
    lease = reader.open(context(2).header, publisher.publish(context(2)))
    reader.open(context(1, generation=2).header, publisher.publish(context(1, generation=2)))
    with pytest.raises(ContextReleased):
        lease.get()
    with pytest.raises(ContextRecycled):
        reader.open(context(1).header, late)


def test_a_closed_publisher_publishes_nothing(publisher: Any, context: Any) -> None:
    publisher.close()
    with pytest.raises(ContextReleased):
        publisher.publish(context(1))


def test_a_header_that_does_not_belong_to_the_handle_is_refused(
    publisher: Any, reader: Any, context: Any
) -> None:
    with pytest.raises(HandleRefused, match="two contexts"):
        reader.open(context(2).header, publisher.publish(context(1)))


@pytest.mark.parametrize(
    "name", ["", "inline", "inline.0123456789abcdef.1", "wam_ctx.0.1.1.0123456789abcdef.0"]
)
def test_a_name_outside_the_pattern_is_refused(publisher: Any, reader: Any, context: Any, name: Any) -> None:
    handle = dataclasses.replace(publisher.publish(context(1)), name=name)
    with pytest.raises(HandleRefused, match="name"):
        reader.open(context(1).header, handle)
