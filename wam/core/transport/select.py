# SPDX-License-Identifier: Apache-2.0
"""Which transport a planner uses, and a reader that opens every one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from wam.core.context import ContextHandle, ContextHeader, Transport
from wam.core.errors import ConfigError, HandleRefused, MissingDependency
from wam.core.policy import ContextLease, ContextPublisher, ContextReader, TensorCodec
from wam.core.transport.in_process import InProcessPublisher, InProcessReader
from wam.core.transport.inline import InlinePublisher, InlineReader
from wam.core.transport.shared_memory import SharedMemoryPublisher, SharedMemoryReader

T = TypeVar("T")

AUTO = "auto"
"""Selects the cheapest transport that both sides share."""

_WHERE = "the planner's parameter `transport`"


@dataclass(frozen=True, slots=True)
class TransportFactory:
    """How to make both ends of a transport.

    Attributes:
        publisher: codec and owner's node name -> publisher.
        reader: codec -> reader.
    """

    publisher: Callable[[TensorCodec[Any], str], ContextPublisher[Any]]
    reader: Callable[[TensorCodec[Any]], ContextReader[Any]]


_FACTORIES: dict[Transport, TransportFactory] = {
    Transport.IN_PROCESS: TransportFactory(
        lambda codec, owner: InProcessPublisher(codec, owner=owner), lambda codec: InProcessReader()
    ),
    Transport.SHARED_MEMORY: TransportFactory(
        lambda codec, owner: SharedMemoryPublisher(codec, owner=owner), SharedMemoryReader
    ),
    Transport.INLINE: TransportFactory(lambda codec, owner: InlinePublisher(codec), InlineReader),
}


def register_transport(transport: Transport, factory: TransportFactory) -> None:
    """Add a transport that lives outside the core; `wam.models.cuda_ipc.register` adds CUDA_IPC."""
    _FACTORIES[transport] = factory


def choose_transport(
    wanted: str, *, same_process: bool, device: str = "cpu", same_host: bool = True
) -> Transport:
    """Return the cheapest transport that planner and executor share, or the one asked for by name.

    `auto` takes IN_PROCESS within a process, CUDA_IPC for a policy on a GPU where that transport is registered,
    SHARED_MEMORY on one host, and INLINE between hosts.

    Args:
        wanted: "auto", or the name of a transport in either case.
        same_process: both run in this process.
        device: device of the planner's tensors ("cpu", "cuda:0").
        same_host: both run on this host, under one user, and see one /dev/shm.

    Raises:
        ConfigError: there is no such transport, or the two sides do not share what it needs.
    """
    on_gpu = device.startswith("cuda")
    if wanted == AUTO:
        if same_process:
            return Transport.IN_PROCESS
        if not same_host:
            return Transport.INLINE
        return Transport.CUDA_IPC if on_gpu and Transport.CUDA_IPC in _FACTORIES else Transport.SHARED_MEMORY
    names = {transport.name.lower(): transport for transport in Transport}
    chosen = names.get(wanted.lower())
    if chosen is None:
        raise ConfigError("context transport", value=wanted, allowed=", ".join([AUTO, *names]), where=_WHERE)
    obstacle = ""
    if chosen is Transport.IN_PROCESS and not same_process:
        obstacle = "planner and executor run in two processes"
    elif chosen in (Transport.SHARED_MEMORY, Transport.CUDA_IPC) and not (same_host or same_process):
        obstacle = "planner and executor run on two hosts"
    elif chosen is Transport.CUDA_IPC and not on_gpu:
        obstacle = f"the policy runs on {device!r}"
    if obstacle:
        fitting = choose_transport(AUTO, same_process=same_process, device=device, same_host=same_host)
        raise ConfigError(
            f"context transport: {obstacle}",
            value=wanted,
            allowed=f"{AUTO} (selects {fitting.name.lower()} here), or inline",
            where=_WHERE,
        )
    return chosen


def make_publisher(transport: Transport, codec: TensorCodec[T], *, owner: str) -> ContextPublisher[T]:
    """Return the planner's end of `transport`.

    Args:
        transport: the transport, as `choose_transport` returned it.
        codec: codec of the policy.
        owner: fully qualified name of the planner's node.

    Raises:
        MissingDependency: nothing on this machine provides the transport.
        ConfigError: the system lacks what it needs.
    """
    return _factory(transport).publisher(codec, owner)


def make_reader(codec: TensorCodec[T]) -> ContextReader[T]:
    """Return a reader that opens the handles of every transport available here."""
    return AnyReader(codec)


class AnyReader(Generic[T]):
    """Executor's end that follows the handle: each names its transport. Thread-safe.

    Args:
        codec: codec of the policy.
    """

    def __init__(self, codec: TensorCodec[T]) -> None:
        self._codec = codec
        self._lock = threading.Lock()
        self._readers: dict[Transport, ContextReader[T]] = {}

    def open(self, header: ContextHeader, handle: ContextHandle) -> ContextLease[T]:
        """Lease the context that `handle` names, by its own transport.

        Raises:
            HandleRefused: the handle is malformed, owned by another process or user, or of a transport this side lacks.
            ContextReleased: the context is gone.
            ContextRecycled: the memory named belongs to another context now.
        """
        with self._lock:
            reader = self._readers.get(handle.transport)
            if reader is None:
                try:
                    reader = _factory(handle.transport).reader(self._codec)
                except MissingDependency as error:
                    raise HandleRefused(f"context handle: {error}") from error
                self._readers[handle.transport] = reader
        return reader.open(header, handle)

    def close(self) -> None:
        """Release every lease."""
        with self._lock:
            readers, self._readers = list(self._readers.values()), {}
        for reader in readers:
            reader.close()


def _factory(transport: Transport) -> TransportFactory:
    factory = _FACTORIES.get(transport)
    if factory is None:
        raise MissingDependency(
            f"transport {transport.name} is not available in this process",
            allowed=", ".join(sorted(one.name for one in _FACTORIES)),
            where=f"{_WHERE}; CUDA_IPC needs an NVIDIA GPU and its driver",
        )
    return factory
