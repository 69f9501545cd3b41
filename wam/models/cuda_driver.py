# SPDX-License-Identifier: Apache-2.0
"""The few calls of the CUDA runtime that memory shared between processes needs, through ctypes.

torch shares CUDA memory too, but counts its readers in a way that leaks what nobody opens, and its public
door to it is the reducer of `torch.multiprocessing`, which pickles. CUDA Runtime API reference, chapter
"Device Management" and "Memory Management": cudaIpcGetMemHandle, cudaIpcOpenMemHandle.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from wam.core.errors import ContextError, MissingDependency

IPC_HANDLE_BYTES = 64
_LAZY_ENABLE_PEER_ACCESS = 1


class DeviceMemory:
    """A range of device memory that torch can wrap without copying; a tensor on it keeps it alive.

    Args:
        address: device address of the first byte.
        size: length [bytes].
    """

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        self.size = size

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        """The range as unsigned bytes (CUDA array interface, version 3)."""
        return {"shape": (self.size,), "typestr": "|u1", "data": (self.address, False), "version": 3}


class CudaDriver(Protocol):
    """Memory of one device. Called from any thread."""

    @property
    def uuid(self) -> str:
        """UUID of the device: the same in every process, unlike its number."""
        ...

    def allocate(self, size: int) -> int:
        """Return the address of `size` new bytes that may be exported."""
        ...

    def free(self, address: int) -> None:
        """Free allocated memory; no other process may have it open."""
        ...

    def export(self, address: int) -> bytes:
        """Return the 64 bytes by which another process opens the allocation at `address`."""
        ...

    def open(self, handle: bytes) -> int:
        """Return the address at which an exported allocation appears here.

        Raises:
            ContextError: CUDA refuses the handle.
        """
        ...

    def close(self, address: int) -> None:
        """Close what `open` returned."""
        ...

    def synchronize(self) -> None:
        """Wait for all work on the device that this process has queued."""
        ...

    def view(self, memory: DeviceMemory) -> Tensor:
        """Return `memory` as a uint8 tensor that keeps it alive."""
        ...


class _IpcHandle(ctypes.Structure):
    _fields_ = [("reserved", ctypes.c_char * IPC_HANDLE_BYTES)]


class CudaRuntime:
    """`CudaDriver` of one device through libcudart, the copy that torch has loaded.

    Args:
        index: number of the device in this process.

    Raises:
        MissingDependency: torch was built without CUDA, or its runtime library is not found.
    """

    def __init__(self, index: int) -> None:
        if torch.version.cuda is None or not torch.cuda.is_available():
            raise MissingDependency(
                "transport CUDA_IPC: torch sees no CUDA device", where="the torch wheel, or the driver"
            )
        library = f"libcudart.so.{torch.version.cuda.partition('.')[0]}"
        try:
            self._cudart = ctypes.CDLL(library)
        except OSError as error:
            raise MissingDependency(f"transport CUDA_IPC: {library} cannot be loaded: {error}") from error
        self._cudart.cudaGetErrorString.restype = ctypes.c_char_p
        self._index = index
        self._uuid = str(torch.cuda.get_device_properties(index).uuid)

    @property
    def uuid(self) -> str:
        """UUID of the device."""
        return self._uuid

    def allocate(self, size: int) -> int:
        """Return new memory of the CUDA runtime: memory of torch's caching allocator cannot always be exported."""
        address = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(size))
        assert address.value is not None
        return address.value

    def free(self, address: int) -> None:
        """Free allocated memory."""
        self._call("cudaFree", ctypes.c_void_p(address))

    def export(self, address: int) -> bytes:
        """Return the 64 bytes by which another process opens the allocation."""
        handle = _IpcHandle()
        self._call("cudaIpcGetMemHandle", ctypes.byref(handle), ctypes.c_void_p(address))
        return ctypes.string_at(ctypes.addressof(handle), IPC_HANDLE_BYTES)

    def open(self, handle: bytes) -> int:
        """Return the address at which an exported allocation appears here."""
        address = ctypes.c_void_p()
        by_value = _IpcHandle.from_buffer_copy(handle)
        flags = ctypes.c_uint(_LAZY_ENABLE_PEER_ACCESS)
        self._call("cudaIpcOpenMemHandle", ctypes.byref(address), by_value, flags)
        assert address.value is not None
        return address.value

    def close(self, address: int) -> None:
        """Close what `open` returned."""
        self._call("cudaIpcCloseMemHandle", ctypes.c_void_p(address))

    def synchronize(self) -> None:
        """Wait for all work on the device that this process has queued."""
        torch.cuda.synchronize(self._index)

    def view(self, memory: DeviceMemory) -> Tensor:
        """Return `memory` as a uint8 tensor that keeps it alive."""
        return torch.as_tensor(memory, device=f"cuda:{self._index}")

    def _call(self, name: str, *arguments: object) -> None:
        # The current device belongs to the calling thread.
        for function, values in (("cudaSetDevice", (ctypes.c_int(self._index),)), (name, arguments)):
            code = getattr(self._cudart, function)(*values)
            if code:
                # The runtime keeps the error for the next call that checks, which would be torch's next kernel.
                self._cudart.cudaGetLastError()
                text = self._cudart.cudaGetErrorString(code).decode()
                raise ContextError(f"transport CUDA_IPC: {function} on device {self._index}: {text}")


def visible_devices() -> Sequence[CudaDriver]:
    """Return a driver for every CUDA device of this process."""
    return [CudaRuntime(index) for index in range(torch.cuda.device_count())]
