# SPDX-License-Identifier: Apache-2.0
"""A GPU that is the CPU: for what runs on the fake TensorRT."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from wam.models.backends.gpu import GpuFacts

FAKE_TENSORRT = Path(__file__).parent / "fake_tensorrt"
STREAM = 4711


class HostLane:
    """Order of work of a CPU; counts how often it was entered."""

    entries = 0

    @contextmanager
    def entered(self) -> Iterator[int]:
        self.entries += 1
        yield STREAM


@dataclass
class HostGpu:
    """Says what it is told to be."""

    name: str = "Fake GPU"
    capability: tuple[int, int] = (9, 0)
    free: int = 16 << 30
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    lanes: list[HostLane] = field(default_factory=list)

    def facts(self) -> GpuFacts:
        return GpuFacts(self.name, self.capability, 24 << 30)

    def free_memory(self) -> int:
        return self.free

    def chosen(self) -> AbstractContextManager[None]:
        return nullcontext()

    def lane(self) -> HostLane:
        self.lanes.append(HostLane())
        return self.lanes[-1]


def install_fake_tensorrt(patch: pytest.MonkeyPatch, *, version: str = "10.16.1.11") -> None:
    """Let this process and its children import the fake, of that version."""
    for name in [one for one in sys.modules if one.partition(".")[0] == "tensorrt"]:
        patch.delitem(sys.modules, name)
    patch.syspath_prepend(str(FAKE_TENSORRT))
    patch.setenv("FAKE_TENSORRT_VERSION", version)
    patch.setenv("PYTHONPATH", str(FAKE_TENSORRT), prepend=":")


def forget_tensorrt() -> None:
    """Forget the fake, of whichever version."""
    for name in [one for one in sys.modules if one.partition(".")[0] == "tensorrt"]:
        del sys.modules[name]
