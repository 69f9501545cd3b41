# SPDX-License-Identifier: Apache-2.0
"""Compiles launches for a GPU that is not there, and reads what they need: registers, stack, shared memory.

    python -m wam.models.kernels.resources            a table for sm_90, sm_120 and sm_87

The compiler and its `cuobjdump` come with the triton wheel; neither a GPU nor a CUDA toolkit is needed.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from wam.models.kernels.launch import KernelLaunch

POINTERS = {
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.float32: "*fp32",
    torch.int32: "*i32",
    torch.uint8: "*u8",
}
DIVISIBLE = 16
"""Numbers divisible by it are compiled as such, as are the addresses of tensors."""


@dataclass(frozen=True, slots=True)
class KernelResources:
    """What one compiled kernel needs.

    Attributes:
        registers: per thread, at most 255.
        stack: bytes per thread; more than 0 means registers were spilled to memory.
        shared: bytes per program.
        threads: per program.
        tensor_cores: it multiplies matrices in hardware.
        pdl: it lets its successor start early and waits for its predecessor.
    """

    registers: int
    stack: int
    shared: int
    threads: int
    tensor_cores: bool
    pdl: bool


def compile_launch(item: KernelLaunch, capability: int) -> KernelResources:
    """Compile one launch, with the very block sizes and types that it would run with.

    Args:
        item: from `recording`; its tensors may be on `meta`.
        capability: 90 for sm_90.
    """
    names: Sequence[str] = item.kernel.arg_names
    given = {**item.arguments, "PDL": item.pdl}
    compiled_in = {p.name for p in item.kernel.params if p.is_constexpr}
    signature: dict[str, str] = {}
    constants: dict[tuple[int], Any] = {}
    hints: dict[tuple[int], list[list[Any]]] = {}
    for i, name in enumerate(names):
        value = given[name]
        if name in compiled_in or value is None:
            signature[name], constants[(i,)] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[name] = POINTERS[value.dtype]
            hints[(i,)] = [["tt.divisibility", DIVISIBLE]]
        elif isinstance(value, int):
            signature[name] = "i32"
            if value % DIVISIBLE == 0:
                hints[(i,)] = [["tt.divisibility", DIVISIBLE]]
        else:
            signature[name] = "fp32"
    done = triton.compile(
        ASTSource(item.kernel, signature, constants, hints),
        target=GPUTarget("cuda", capability, 32),
        options=item.options,
    )
    registers, stack = _usage(done.asm["cubin"])
    ptx: str = done.asm["ptx"]
    return KernelResources(
        registers=registers,
        stack=stack,
        shared=int(done.metadata.shared),
        threads=32 * item.warps,
        tensor_cores="mma." in ptx or "wgmma" in ptx,
        pdl="griddepcontrol.wait" in ptx and "griddepcontrol.launch_dependents" in ptx,
    )


def _usage(cubin: bytes) -> tuple[int, int]:
    """Return registers and stack of the one kernel of a cubin."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "kernel.cubin")
        Path(path).write_bytes(cubin)
        text = subprocess.run(
            [str(tool), "-res-usage", path], capture_output=True, text=True, check=True
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", text)
    if found is None:
        raise ValueError(f"cuobjdump -res-usage names no registers: {text[-200:]!r}")
    return int(found[1]), int(found[2])
