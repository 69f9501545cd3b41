# SPDX-License-Identifier: Apache-2.0
"""One place where kernels are launched, so that a layer's launches can also be listed and compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class KernelLaunch:
    """One launch.

    Attributes:
        kernel: function decorated by `triton.jit`.
        grid: programs along up to three axes.
        arguments: by name; tensors, numbers, None, and the compile-time values.
        warps: of 32 threads, per program.
        stages: depth of the pipeline of a loop over memory.
        pdl: starts while the kernel ahead of it still runs (programmatic dependent launch).
    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    warps: int
    stages: int
    pdl: bool

    @property
    def options(self) -> dict[str, Any]:
        """What the compiler is told."""
        return {
            "num_warps": self.warps,
            "num_stages": self.stages,
            "launch_pdl": self.pdl,
            "enable_fp_fusion": True,
        }


_recorded: ContextVar[list[KernelLaunch] | None] = ContextVar("recorded", default=None)


def launch(item: KernelLaunch) -> None:
    """Run a kernel on the current stream, or note it inside `recording`."""
    recorded = _recorded.get()
    if recorded is not None:
        recorded.append(item)
        return
    item.kernel[item.grid](**item.arguments, PDL=item.pdl, **item.options)


@contextmanager
def recording() -> Iterator[list[KernelLaunch]]:
    """List the launches of what is called inside instead of running them; its tensors may be on `meta`."""
    items: list[KernelLaunch] = []
    token = _recorded.set(items)
    try:
        yield items
    finally:
        _recorded.reset(token)
