# SPDX-License-Identifier: Apache-2.0
"""What a compiled stage needs of a GPU: what it is, its free memory, a place to work in, and an order of work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

ALIGNMENT = 256
"""Of every address that TensorRT is given [bytes]."""


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """What engines depend on.

    Attributes:
        name: of the product.
        capability: compute capability, major and minor.
        memory: in total [bytes].
    """

    name: str
    capability: tuple[int, int]
    memory: int

    def __str__(self) -> str:
        """Return name and compute capability."""
        return f"{self.name}, compute capability {self.capability[0]}.{self.capability[1]}"


class Lane(Protocol):
    """An order of work on a GPU that is never the default stream, which engines would wait for."""

    def entered(self) -> AbstractContextManager[int]:
        """Return a context that gives the stream to enqueue into; its work follows the caller's, and precedes what
        the caller enqueues afterwards. PyTorch's own operations inside go to the same stream.
        """
        ...


class Gpu(Protocol):
    """One GPU."""

    @property
    def device(self) -> torch.device:
        """Where tensors for it live."""
        ...

    def facts(self) -> GpuFacts:
        """Return what it is."""
        ...

    def free_memory(self) -> int:
        """Return the memory that nothing uses [bytes]."""
        ...

    def chosen(self) -> AbstractContextManager[None]:
        """Return a context in which libraries that take the current GPU take this one."""
        ...

    def lane(self) -> Lane:
        """Return a new order of work."""
        ...


class CudaLane:
    """A stream beside the default one; a caller that is on a stream of its own, as a capture is, stays on it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._side = torch.cuda.Stream(device)

    @contextmanager
    def entered(self) -> Iterator[int]:
        """Give the stream; see `Lane`."""
        current = torch.cuda.current_stream(self._device)
        if current != torch.cuda.default_stream(self._device):
            yield int(current.cuda_stream)
            return
        self._side.wait_stream(current)
        with torch.cuda.stream(self._side):
            yield int(self._side.cuda_stream)
        current.wait_stream(self._side)


class CudaGpu:
    """A GPU through PyTorch."""

    def __init__(self, device: torch.device | str) -> None:
        device = torch.device(device)
        self._device = device if device.index is not None else torch.device("cuda", 0)

    @property
    def device(self) -> torch.device:
        """Where tensors for it live."""
        return self._device

    def facts(self) -> GpuFacts:
        """Return what it is."""
        found = torch.cuda.get_device_properties(self._device)
        return GpuFacts(found.name, (found.major, found.minor), found.total_memory)

    def free_memory(self) -> int:
        """Return what the driver has free and what PyTorch keeps without using it [bytes]."""
        free, _ = torch.cuda.mem_get_info(self._device)
        kept = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        return int(free) + kept

    @contextmanager
    def chosen(self) -> Iterator[None]:
        """Make it the current one."""
        with torch.cuda.device(self._device):
            yield

    def lane(self) -> Lane:
        """Return a new order of work."""
        return CudaLane(self._device)


def aligned(tensor: Tensor) -> Tensor:
    """Return the tensor where it is contiguous and begins at an aligned address, else a copy that does."""
    tensor = tensor.contiguous()
    if tensor.data_ptr() % ALIGNMENT == 0:
        return tensor
    return aligned_empty(tensor.shape, tensor.dtype, tensor.device).copy_(tensor)


def aligned_empty(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return uninitialised memory that begins at an aligned address."""
    tensor = torch.empty(shape, dtype=dtype, device=device)
    if tensor.data_ptr() % ALIGNMENT == 0:
        return tensor
    size = tensor.numel() * dtype.itemsize
    room = torch.empty(size + ALIGNMENT, dtype=torch.uint8, device=device)
    skip = -room.data_ptr() % ALIGNMENT
    return room[skip : skip + size].view(dtype).view(shape)
