# SPDX-License-Identifier: Apache-2.0
"""Hand-over between two processes on one GPU: the tensors stay on the device, only a 64-byte handle is sent.

    planner:   copy on the device into a slot's allocation -> descriptor (UUID, handle, size) -> control segment
    executor:  check and lease the control segment -> open the allocation -> views of it

The control segment is one of `wam.core.transport.segment`: a slot is written again only when the last
tensor made of it is gone in every reader, and a dead reader's lease goes with it. One copy on the device
(44 MB at the memory's own speed) buys the planner freedom to reuse its buffers.
"""

from __future__ import annotations

import re
import struct
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

from torch import Tensor

from wam.core.context import ContextHandle, ContextHeader, PlannerContext, TensorSpec, Transport
from wam.core.errors import ContextReleased, HandleRefused
from wam.core.transport.identity import this_process
from wam.core.transport.layout import MAX_PAYLOAD_BYTES, payload_bytes, table_checksum, tensor_bytes
from wam.core.transport.lease import LeaseBook, ViewLease
from wam.core.transport.segment import SHM_DIRECTORY, MappedSegment, SegmentName
from wam.core.transport.select import TransportFactory, register_transport
from wam.core.transport.shared_memory import lease_segment
from wam.core.transport.slots import SlotPool
from wam.models.context_codec import DTYPES
from wam.models.cuda_driver import IPC_HANDLE_BYTES, CudaDriver, CudaRuntime, DeviceMemory, visible_devices

T = TypeVar("T")

_DESCRIPTOR = struct.Struct(f"=8s36s{IPC_HANDLE_BYTES}sQ")
_MAGIC = b"WAMCUDA1"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class DeviceCodec(Protocol[T]):
    """A codec that also gives the tensors themselves (`wam.models.context_codec.TorchCodec`)."""

    def specs(self, payload: T) -> tuple[TensorSpec, ...]:
        """Return the table of the payload's tensors."""
        ...

    def to_tensors(self, payload: T) -> Mapping[str, Tensor]:
        """Return the payload's tensors in the order of the table."""
        ...

    def from_tensors(self, tensors: Mapping[str, Tensor]) -> T:
        """Return the payload made of `tensors`."""
        ...


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Description of device memory in a control segment.

    Attributes:
        uuid: UUID of the device, lower case.
        handle: the CUDA runtime's 64-byte handle of the allocation.
        size: size of the allocation [bytes].
    """

    uuid: str
    handle: bytes
    size: int

    def pack(self) -> bytes:
        """Return the descriptor's bytes."""
        return _DESCRIPTOR.pack(_MAGIC, self.uuid.encode(), self.handle, self.size)

    @classmethod
    def unpack(cls, data: bytes | memoryview, *, needed_bytes: int) -> Descriptor:
        """Return the descriptor in `data`.

        Args:
            data: bytes of a control segment.
            needed_bytes: size of the payload that must fit the allocation.

        Raises:
            HandleRefused: it is no descriptor, or its allocation is too small.
        """
        if len(data) != _DESCRIPTOR.size:
            raise HandleRefused(
                "CUDA descriptor: length", value=len(data), allowed=f"{_DESCRIPTOR.size} bytes"
            )
        magic, uuid, handle, size = _DESCRIPTOR.unpack(data)
        text = uuid.decode("ascii", errors="replace")
        if magic != _MAGIC or not _UUID.fullmatch(text):
            raise HandleRefused("CUDA descriptor: it does not name a device", value=text)
        if not needed_bytes <= size <= MAX_PAYLOAD_BYTES:
            raise HandleRefused(
                "CUDA descriptor: size", value=size, allowed=f"{needed_bytes} to {MAX_PAYLOAD_BYTES} bytes"
            )
        return cls(text, handle, size)


@dataclass(frozen=True, slots=True)
class _Arena:
    driver: CudaDriver
    address: int
    descriptor: Descriptor


class CudaIpcPublisher(Generic[T]):
    """Planner's end.

    Args:
        codec: gives the tensors of a payload; all on one CUDA device.
        owner: name of the node.
        keep: newest contexts that stay readable without a lease.
        max_slots: most device allocations, those that readers hold included.
        directory: where control segments live.
        driver_of: device number -> driver.
    """

    def __init__(
        self,
        codec: DeviceCodec[T],
        *,
        owner: str = "wam_planner",
        keep: int = 2,
        max_slots: int = 8,
        directory: Path = SHM_DIRECTORY,
        driver_of: Callable[[int], CudaDriver] = CudaRuntime,
    ) -> None:
        self._codec = codec
        self._driver_of = driver_of
        self._drivers: dict[int, CudaDriver] = {}
        self._arenas: dict[str, _Arena] = {}
        self._pool = SlotPool(owner=owner, keep=keep, max_slots=max_slots, directory=directory)

    @property
    def transport(self) -> Transport:
        """How payloads travel."""
        return Transport.CUDA_IPC

    def publish(self, context: PlannerContext[T]) -> ContextHandle:
        """Copy `context` on the device into a slot and return its handle; waits for the copy.

        Raises:
            ContextReleased: the publisher was closed.
            ContextError: readers hold every slot, or CUDA refuses.
            ValueError: the tensors lie on several devices, or the context is not newer than the last one.
        """
        tensors = self._codec.to_tensors(context.payload)
        devices = {tensor.device for tensor in tensors.values()}
        if len(devices) != 1:
            raise ValueError(f"a planner context lies on {sorted(map(str, devices))}; allowed: one device")
        index = next(iter(devices)).index or 0
        specs = self._codec.specs(context.payload)
        total = payload_bytes(specs)

        def fill(name: SegmentName, room: memoryview) -> None:
            arena = self._arena(name.slot, index, total)
            views = _views(specs, arena.driver.view(DeviceMemory(arena.address, arena.descriptor.size)))
            for spec in specs:
                views[spec.name].copy_(tensors[spec.name], non_blocking=True)
            # The reader runs on a stream of another process: nothing but completion orders the two.
            arena.driver.synchronize()
            room[:] = arena.descriptor.pack()

        name = self._pool.write(
            context.header, payload_bytes=_DESCRIPTOR.size, table_crc=table_checksum(specs), fill=fill
        )
        return ContextHandle(Transport.CUDA_IPC, str(name), specs, total)

    def leases(self) -> int:
        """Return how many contexts readers hold at this moment, tensors held after release included."""
        return self._pool.leases()

    def close(self) -> None:
        """Retire every context. Device memory that a reader still has open is left to the end of the process."""
        # Freeing memory that another process has open is undefined (cudaIpcOpenMemHandle).
        read = self._pool.close()
        arenas, self._arenas = self._arenas, {}
        if not read:
            for arena in arenas.values():
                arena.driver.free(arena.address)

    def _arena(self, slot: str, index: int, size: int) -> _Arena:
        """Return the device memory of a slot that no reader has open, allocated again where it does not fit."""
        driver = self._drivers.get(index)
        if driver is None:
            driver = self._drivers[index] = self._driver_of(index)
        arena = self._arenas.get(slot)
        if arena is not None and (arena.driver is not driver or arena.descriptor.size < size):
            del self._arenas[slot]
            arena.driver.free(arena.address)
            arena = None
        if arena is None:
            address = driver.allocate(size)
            arena = _Arena(driver, address, Descriptor(driver.uuid, driver.export(address), size))
            self._arenas[slot] = arena
        return arena


class CudaIpcReader(Generic[T]):
    """Executor's end.

    Args:
        codec: makes a payload of tensors.
        directory: where control segments live.
        devices: returns the drivers of the devices of this process.
    """

    def __init__(
        self,
        codec: DeviceCodec[T],
        *,
        directory: Path = SHM_DIRECTORY,
        devices: Callable[[], Sequence[CudaDriver]] = visible_devices,
    ) -> None:
        self._codec = codec
        self._directory = directory
        self._devices = devices
        self._drivers: dict[str, CudaDriver] | None = None
        self._lock = threading.Lock()
        self._book: LeaseBook[T] = LeaseBook()

    def open(self, header: ContextHeader, handle: ContextHandle) -> ViewLease[T]:
        """Lease the context that `handle` names; its tensors are views of the planner's device memory.

        Raises:
            HandleRefused: the handle, its control segment or its descriptor fails a check, or the device is
                not one of this process.
            ContextReleased: the publisher is gone or retired the context.
            ContextRecycled: the slot holds another context now.
            ContextError: CUDA refuses to open the memory.
        """
        segment = lease_segment(
            header,
            handle,
            Transport.CUDA_IPC,
            directory=self._directory,
            limit_bytes=MAX_PAYLOAD_BYTES,
            segment_bytes=_DESCRIPTOR.size,
        )
        if segment.header.name.owner == this_process():
            raise HandleRefused(
                "context handle: CUDA cannot open memory of its own process",
                where="the planner's parameter `transport` (use in_process)",
            )
        descriptor = Descriptor.unpack(segment.payload, needed_bytes=handle.total_bytes)
        driver = self._driver(descriptor.uuid)
        memory = DeviceMemory(driver.open(descriptor.handle), handle.total_bytes)
        # The last tensor made of the memory closes it; only then does the segment let go of its lock.
        weakref.finalize(memory, _close, driver, memory.address, segment)
        payload = self._codec.from_tensors(_views(handle.specs, driver.view(memory)))

        def check() -> None:
            if not segment.ready:
                raise ContextReleased(f"planner context {segment.header.name}: its planner retired it")

        return self._book.add(ViewLease(PlannerContext(header, payload), check))

    def close(self) -> None:
        """Release every lease."""
        self._book.release_all()

    def _driver(self, uuid: str) -> CudaDriver:
        with self._lock:
            if self._drivers is None:
                self._drivers = {driver.uuid: driver for driver in self._devices()}
            driver = self._drivers.get(uuid)
        if driver is None:
            raise HandleRefused(
                "CUDA descriptor: its device is not one of this process",
                value=uuid,
                allowed=", ".join(self._drivers) or "none (no CUDA device here)",
                where="CUDA_VISIBLE_DEVICES, or the planner's parameter `transport`",
            )
        return driver


def register() -> None:
    """Register CUDA_IPC with `wam.core.transport.select`; called where torch and a GPU are available."""
    register_transport(
        Transport.CUDA_IPC,
        TransportFactory(
            # The table holds codecs of any kind; those of policies on a GPU are device codecs.
            lambda codec, owner: CudaIpcPublisher(cast(DeviceCodec[Any], codec), owner=owner),
            lambda codec: CudaIpcReader(cast(DeviceCodec[Any], codec)),
        ),
    )


def _views(specs: Sequence[TensorSpec], memory: Tensor) -> dict[str, Tensor]:
    """Return the tensors of `specs` as views of `memory`, uint8 [bytes]."""
    return {
        spec.name: memory[spec.byte_offset : spec.byte_offset + tensor_bytes(spec)]
        .view(DTYPES[spec.dtype])
        .view(spec.shape)
        for spec in specs
    }


def _close(driver: CudaDriver, address: int, segment: MappedSegment) -> None:
    """Close device memory after its last tensor is freed; then free `segment` and its lease."""
    # Kernels that read it may still be queued.
    driver.synchronize()
    driver.close(address)
    del segment
