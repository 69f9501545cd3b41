# SPDX-License-Identifier: Apache-2.0
"""Which transport is taken, and the reader that follows the handle."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from wam.core.context import Transport
from wam.core.errors import ConfigError, ContextReleased, HandleRefused, MissingDependency
from wam.core.transport import select
from wam.core.transport.inline import InlinePublisher, InlineReader
from wam.core.transport.select import TransportFactory, choose_transport, make_publisher, make_reader


@pytest.fixture
def without_cuda(monkeypatch):
    factories = {k: v for k, v in select._FACTORIES.items() if k is not Transport.CUDA_IPC}
    monkeypatch.setattr(select, "_FACTORIES", factories)
    return factories


@pytest.mark.parametrize(
    ("same_process", "same_host", "device", "expected"),
    [
        (True, True, "cpu", Transport.IN_PROCESS),
        (True, True, "cuda:0", Transport.IN_PROCESS),
        (False, True, "cpu", Transport.SHARED_MEMORY),
        (False, True, "cuda:0", Transport.SHARED_MEMORY),
        (False, False, "cpu", Transport.INLINE),
        (False, False, "cuda:0", Transport.INLINE),
    ],
)
def test_auto_takes_the_cheapest_both_share(
    without_cuda: Any, same_process: Any, same_host: Any, device: Any, expected: Any
) -> None:
    taken = choose_transport("auto", same_process=same_process, same_host=same_host, device=device)
    assert taken is expected


def test_auto_keeps_tensors_on_the_gpu_where_cuda_ipc_is_registered(without_cuda: Any) -> None:
    without_cuda[Transport.CUDA_IPC] = without_cuda[Transport.INLINE]
    assert choose_transport("auto", same_process=False, device="cuda:0") is Transport.CUDA_IPC
    assert choose_transport("auto", same_process=False, device="cpu") is Transport.SHARED_MEMORY
    assert choose_transport("auto", same_process=False, device="cuda:0", same_host=False) is Transport.INLINE


@pytest.mark.parametrize("name", ["inline", "INLINE", "shared_memory"])
def test_a_transport_can_be_asked_for_by_name(name: Any) -> None:
    assert choose_transport(name, same_process=True) is Transport[name.upper()]


@pytest.mark.parametrize(
    ("wanted", "same_process", "same_host", "text"),
    [
        ("in_process", False, True, "two processes.*selects shared_memory here"),
        ("shared_memory", False, False, "two hosts.*selects inline here"),
        ("cuda_ipc", False, True, "runs on 'cpu'"),
        ("zenoh", False, True, "auto, in_process, shared_memory, cuda_ipc, inline"),
    ],
)
def test_a_transport_that_cannot_work_is_refused_by_name(
    wanted: Any, same_process: Any, same_host: Any, text: Any
) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        choose_transport(wanted, same_process=same_process, same_host=same_host)
    assert "parameter `transport`" in str(caught.value)


def test_a_transport_that_nothing_provides_says_what_it_needs(without_cuda: Any, codec: Any) -> None:
    with pytest.raises(MissingDependency, match="CUDA_IPC"):
        make_publisher(Transport.CUDA_IPC, codec, owner="wam_planner")


@pytest.mark.parametrize("transport", [Transport.IN_PROCESS, Transport.SHARED_MEMORY, Transport.INLINE])
def test_one_reader_opens_the_handles_of_every_transport(codec: Any, context: Any, transport: Any) -> None:
    publisher = make_publisher(transport, codec, owner=f"test_{transport.name}")
    reader = make_reader(codec)
    try:
        assert publisher.transport is transport
        handle = publisher.publish(context(1))
        lease = reader.open(context(1).header, handle)
        assert lease.get().payload["k"][0, 0, 0] == 101
        reader.close()
        with pytest.raises(ContextReleased):
            lease.get()
    finally:
        publisher.close()


def test_a_handle_of_a_transport_this_side_lacks_is_refused(
    without_cuda: Any, codec: Any, context: Any
) -> None:
    handle = InlinePublisher(codec).publish(context(1))
    with pytest.raises(HandleRefused, match="CUDA_IPC"):
        make_reader(codec).open(context(1).header, dataclasses.replace(handle, transport=Transport.CUDA_IPC))


def test_a_registered_transport_is_used(without_cuda: Any, codec: Any, context: Any) -> None:
    made: list[str] = []

    def publisher(codec: Any, owner: str) -> Any:
        made.append(owner)
        return InlinePublisher(codec)

    select.register_transport(Transport.CUDA_IPC, TransportFactory(publisher, InlineReader))
    make_publisher(Transport.CUDA_IPC, codec, owner="/wam_planner")
    assert made == ["/wam_planner"]
