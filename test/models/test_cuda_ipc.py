# SPDX-License-Identifier: Apache-2.0
"""CUDA IPC: descriptor, leases and slots on a fake device of host memory, and the real thing where a GPU is."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wam.core.context import ContextHandle, ContextHeader, PlannerContext, Transport
from wam.core.errors import ContextError, ContextReleased, HandleRefused, MissingDependency
from wam.core.transport import select
from wam.models import cuda_ipc
from wam.models.context_codec import TorchCodec
from wam.models.cuda_driver import CudaRuntime, DeviceMemory, visible_devices
from wam.models.cuda_ipc import CudaIpcPublisher, CudaIpcReader, Descriptor

UUID = "12345678-1234-1234-1234-123456789abc"
ROOT = Path(__file__).parents[2]


class HostDevice:
    """A device whose memory is the host's, with the duties of the real one held by assertions."""

    uuid = UUID

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.exported: dict[bytes, int] = {}
        self.opened: dict[int, int] = {}
        self.synchronized = 0

    def allocate(self, size: int) -> int:
        buffer = ctypes.create_string_buffer(size)
        address = ctypes.addressof(buffer)
        self.memory[address] = buffer
        return address

    def free(self, address: int) -> None:
        assert not self.opened.get(address), "memory was freed while a reader had it open"
        del self.memory[address]

    def export(self, address: int) -> bytes:
        handle = f"handle of {address}".encode().ljust(64, b"\0")
        self.exported[handle] = address
        return handle

    def open(self, handle: bytes) -> int:
        address = self.exported[handle]
        self.opened[address] = self.opened.get(address, 0) + 1
        return address

    def close(self, address: int) -> None:
        assert self.synchronized, "memory was closed with work on it still queued"
        self.opened[address] -= 1

    def synchronize(self) -> None:
        self.synchronized += 1

    def view(self, memory: DeviceMemory) -> torch.Tensor:
        raw = (ctypes.c_uint8 * memory.size).from_address(memory.address)
        raw._keeps = memory
        return torch.from_numpy(np.ctypeslib.as_array(raw))


@pytest.fixture
def device():
    return HostDevice()


@pytest.fixture
def codec():
    return TorchCodec(dict, dict)


@pytest.fixture
def publisher(codec, device, tmp_path):
    made = CudaIpcPublisher(codec, max_slots=4, directory=tmp_path, driver_of=lambda index: device)
    yield made
    made.close()


@pytest.fixture
def reader(codec, device, tmp_path, monkeypatch):
    # The fake device lies in this process; the real one refuses that.
    monkeypatch.setattr(cuda_ipc, "this_process", lambda: None)
    return CudaIpcReader(codec, directory=tmp_path, devices=lambda: [device])


def context(version: int, generation: int = 1, width: int = 3, device: str = "cpu") -> PlannerContext[Any]:
    header = ContextHeader(version, generation, version, "a" * 64, "stack", 64, 33_333_333)
    payload = {
        "k": torch.full((2, width), float(version), dtype=torch.bfloat16, device=device),
        "n": torch.full((5,), version, dtype=torch.int64, device=device),
    }
    return PlannerContext(header, payload)


def values(payload: dict[str, torch.Tensor]) -> set[float]:
    return {float(x) for tensor in payload.values() for x in tensor.flatten().tolist()}


def test_tensors_reach_the_reader_with_their_types(publisher: Any, reader: Any) -> None:
    handle = publisher.publish(context(7))
    received = reader.open(context(7).header, handle).get().payload
    assert handle.transport is Transport.CUDA_IPC
    assert handle.data == b""
    assert {name: (t.dtype, tuple(t.shape)) for name, t in received.items()} == {
        "k": (torch.bfloat16, (2, 3)),
        "n": (torch.int64, (5,)),
    }
    assert values(received) == {7.0}


def test_the_copy_is_complete_before_the_handle_leaves(publisher: Any, device: Any) -> None:
    publisher.publish(context(1))
    assert device.synchronized == 1


def test_a_read_after_release_raises_and_the_memory_is_closed(
    publisher: Any, reader: Any, device: Any
) -> None:
    lease = reader.open(context(1).header, publisher.publish(context(1)))
    assert publisher.leases() == 1
    lease.release()
    with pytest.raises(ContextReleased):
        lease.get()
    assert publisher.leases() == 0
    assert set(device.opened.values()) == {0}


def test_a_tensor_held_after_release_keeps_its_memory_and_its_slot(
    publisher: Any, reader: Any, device: Any
) -> None:
    lease = reader.open(context(1).header, publisher.publish(context(1)))
    tensor = lease.get().payload["n"]
    lease.release()
    for version in range(2, 9):
        publisher.publish(context(version))
    assert set(tensor.tolist()) == {1}
    assert publisher.leases() == 1
    del tensor
    assert publisher.leases() == 0
    assert set(device.opened.values()) == {0}


def test_a_larger_context_gets_larger_memory_and_the_smaller_is_freed(
    publisher: Any, reader: Any, device: Any
) -> None:
    for version in range(1, 5):
        publisher.publish(context(version))
    for version in range(5, 9):
        larger = context(version, width=500)
        lease = reader.open(larger.header, publisher.publish(larger))
        assert values(lease.get().payload) == {float(version)}
        lease.release()
    assert {len(buffer) for buffer in device.memory.values()} == {2048 + 40}


def test_closing_the_planner_ends_leases_and_spares_memory_that_is_open(
    publisher: Any, reader: Any, device: Any
) -> None:
    lease = reader.open(context(1).header, publisher.publish(context(1)))
    tensor = lease.get().payload["n"]
    publisher.close()
    with pytest.raises(ContextReleased):
        lease.get()
    assert set(tensor.tolist()) == {1}


def test_closing_a_planner_that_nobody_reads_frees_the_device(publisher: Any, device: Any) -> None:
    publisher.publish(context(1))
    publisher.close()
    assert device.memory == {}


def test_a_context_on_two_devices_is_refused(publisher: Any) -> None:
    mixed = context(1)
    mixed.payload["k"] = mixed.payload["k"].to("meta")
    with pytest.raises(ValueError, match="one device"):
        publisher.publish(mixed)


def test_memory_of_the_own_process_is_refused(
    publisher: Any, codec: Any, device: Any, tmp_path: Path
) -> None:
    reader = CudaIpcReader(codec, directory=tmp_path, devices=lambda: [device])
    handle = publisher.publish(context(1))
    with pytest.raises(HandleRefused, match="own process"):
        reader.open(context(1).header, handle)
    assert publisher.leases() == 0


def test_a_device_that_is_not_visible_is_refused_by_its_uuid(
    publisher: Any, codec: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_ipc, "this_process", lambda: None)
    reader = CudaIpcReader(codec, directory=tmp_path, devices=lambda: [])
    handle = publisher.publish(context(1))
    with pytest.raises(HandleRefused, match=UUID):
        reader.open(context(1).header, handle)


def test_a_table_that_was_not_written_is_refused(publisher: Any, reader: Any) -> None:
    handle = publisher.publish(context(1))
    n = dataclasses.replace(handle.specs[1], dtype="float64")
    with pytest.raises(HandleRefused, match="tensor table"):
        reader.open(context(1).header, dataclasses.replace(handle, specs=(handle.specs[0], n)))


GOOD = Descriptor(UUID, bytes(range(64)), 4096)


def test_a_descriptor_survives_its_bytes() -> None:
    assert Descriptor.unpack(GOOD.pack(), needed_bytes=4096) == GOOD


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "length"),
        (GOOD.pack() + b"\0", "length"),
        (b"X" + GOOD.pack()[1:], "name a device"),
        (dataclasses.replace(GOOD, uuid="../" + UUID[3:]).pack(), "name a device"),
        (dataclasses.replace(GOOD, uuid=UUID.upper()).pack(), "name a device"),
        (dataclasses.replace(GOOD, size=4095).pack(), "size"),
        (dataclasses.replace(GOOD, size=2**63).pack(), "size"),
    ],
)
def test_a_damaged_descriptor_is_refused(data: Any, text: Any) -> None:
    with pytest.raises(HandleRefused, match=text):
        Descriptor.unpack(data, needed_bytes=4096)


@given(st.binary(min_size=116, max_size=116))
def test_random_bytes_are_no_descriptor(data: Any) -> None:
    with pytest.raises(HandleRefused):
        Descriptor.unpack(data, needed_bytes=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="tells what happens without a GPU")
def test_without_a_gpu_the_error_says_so() -> None:
    assert visible_devices() == []
    with pytest.raises(MissingDependency, match="no CUDA device"):
        CudaRuntime(0)


def test_registering_makes_the_transport_known(codec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "_FACTORIES", dict(select._FACTORIES))
    cuda_ipc.register()
    publisher = select.make_publisher(Transport.CUDA_IPC, codec, owner="test_register")
    assert publisher.transport is Transport.CUDA_IPC
    publisher.close()


READER = """
import json, sys
from pathlib import Path
from wam.core.context import ContextHandle, ContextHeader, TensorSpec, Transport
from wam.models.context_codec import TorchCodec
from wam.models.cuda_ipc import CudaIpcReader
codec = TorchCodec(dict, dict)
reader = CudaIpcReader(codec, directory=Path(sys.argv[1]))
lease = tensors = None
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "open":
        specs = tuple(TensorSpec(n, d, tuple(s), o) for n, d, s, o in request["specs"])
        handle = ContextHandle(Transport.CUDA_IPC, request["name"], specs, request["total_bytes"])
        v = request["version"]
        lease = reader.open(ContextHeader(v, 1, v, "a" * 64, "stack", 64, 33_333_333), handle)
        tensors = lease.get().payload
    elif request["do"] == "drop":
        lease.release()
        lease = tensors = None
    seen = sorted({float(x) for t in (tensors or {}).values() for x in t.flatten().tolist()})
    print(json.dumps(seen), flush=True)
"""


class RefusingRuntime:
    """libcudart that refuses one call and keeps its error, as the real one does."""

    def __init__(self) -> None:
        self.kept = 0

    def cudaSetDevice(self, index: Any) -> int:
        return 0

    def cudaIpcOpenMemHandle(self, *arguments: Any) -> int:
        self.kept = 1
        return 1

    def cudaGetLastError(self) -> int:
        code, self.kept = self.kept, 0
        return code

    def cudaGetErrorString(self, code: int) -> bytes:
        return b"invalid argument"


def test_a_refused_handle_leaves_no_error_behind_for_torch() -> None:
    """The runtime keeps the last error of a thread: torch's next kernel was blamed for a handle refused before it."""
    driver = CudaRuntime.__new__(CudaRuntime)
    driver._cudart, driver._index = RefusingRuntime(), 0
    with pytest.raises(ContextError, match="invalid argument"):
        driver.open(b"\0" * 64)
    assert driver._cudart.kept == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_tensors_cross_to_another_process_on_the_gpu(codec: Any, tmp_path: Path) -> None:
    publisher = CudaIpcPublisher(codec, max_slots=4, directory=tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as child:

        def ask(**request: Any) -> Any:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps(request) + "\n")
            child.stdin.flush()
            return json.loads(child.stdout.readline())

        handle: ContextHandle = publisher.publish(context(1, device="cuda:0"))
        specs = [[s.name, s.dtype, list(s.shape), s.byte_offset] for s in handle.specs]
        opening = {"name": handle.name, "total_bytes": handle.total_bytes, "specs": specs, "version": 1}
        assert ask(do="open", **opening) == [1.0]
        for version in range(2, 9):
            publisher.publish(context(version, device="cuda:0"))
        assert ask(do="look") == [1.0]
        assert publisher.leases() == 1
        ask(do="drop")
        assert publisher.leases() == 0
    publisher.close()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_handle_that_cuda_does_not_know_is_an_error() -> None:
    with pytest.raises(ContextError, match="cudaIpcOpenMemHandle"):
        CudaRuntime(0).open(b"\0" * 64)
    assert float(torch.ones(3, device="cuda").sum()) == 3.0, "the error is torch's now"
