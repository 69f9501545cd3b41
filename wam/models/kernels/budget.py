# SPDX-License-Identifier: Apache-2.0
"""Every layer at its released size, compiled for GPUs that are not there, beside what it may need.

    python -m wam.models.kernels.budget 90 120 87            a table
    python -m wam.models.kernels.budget --json 90 action     the same as JSON, of some layers only

A kernel over budget still runs, but slower: registers past 255 are spilled to memory, and a program that needs more
shared memory than a processor has is not started at all.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wam.models.kernels.attention import ContextRows
from wam.models.kernels.dit_layer import DitLayerWeights, dit_layer
from wam.models.kernels.gated_layer import GatedLayerWeights, gated_layer
from wam.models.kernels.launch import KernelLaunch, recording
from wam.models.kernels.resources import KernelResources, compile_launch
from wam.models.kernels.stream_layer import StreamLayerWeights, StreamModulationRows, stream_layer, stream_qkv
from wam.models.kernels.weights import Affine
from wam.models.layers.rope import Rope

CAPABILITIES = (90, 120, 87)
"""H100 and H200; RTX 50 series; Jetson Orin."""
PROGRAMMATIC = 90
"""Programmatic dependent launch from this capability on."""
SHARED = {80: 163 << 10, 87: 163 << 10, 90: 227 << 10, 100: 227 << 10, 103: 227 << 10, 120: 99 << 10}
"""Shared memory that one program may have [bytes]."""
REGISTER_FILE = 65_536
"""Registers of one processor; at least one program's threads must fit."""


def over_budget(resources: KernelResources, capability: int) -> list[str]:
    """Return what a kernel needs too much of; empty where it keeps its budget.

    A capability that `SHARED` does not have takes the least of those, as most GPUs for desktops have it.
    """
    limits = (
        ("registers per thread", resources.registers, 254),
        ("registers per program", resources.registers * resources.threads, REGISTER_FILE),
        ("bytes of stack", resources.stack, 0),
        ("bytes of shared memory", resources.shared, SHARED.get(capability, min(SHARED.values()))),
    )
    return [f"{value} {what}, allowed {limit}" for what, value, limit in limits if value > limit]


def _dit(rows: int, width: int, ffn: int, *, context: int, text: int, memory: bool, pdl: bool) -> None:
    inner, heads = 3072, 24
    norm = _bf16(inner)
    weights = DitLayerWeights(
        qkv=_affine(3 * inner, width),
        norm_q=norm,
        norm_k=norm,
        out=_affine(width, inner),
        cross_norm=Affine(_bf16(width), _bf16(width)),
        cross_q=_affine(inner, width),
        cross_norm_q=norm,
        cross_out=_affine(width, inner),
        up=_affine(ffn, width),
        down=_affine(width, ffn),
        heads=heads,
        eps=1e-6,
    )
    dit_layer(
        weights,
        _bf16(rows, width),
        weights.run(rows, pdl=pdl),
        modulation_6D=_bf16(6, width),
        rope=_rope(rows, 128),
        text=ContextRows(_bf16(text, inner), _bf16(text, inner)),
        context=ContextRows(
            _bf16(context, inner), _bf16(context, inner), _rope(context, 128) if memory else None
        ),
        mask=torch.empty(1, context + rows, dtype=torch.bool, device="meta") if memory else None,
        keys_out=(_bf16(rows, inner), _bf16(rows, inner)) if memory else None,
    )


def action(pdl: bool) -> None:
    """AHA-WAM's action DiT: 16 rows under 120 planner rows and 129 text rows."""
    _dit(16, 1024, 4096, context=120, text=129, memory=False, pdl=pdl)


def prefill(pdl: bool) -> None:
    """AHA-WAM's video DiT: 120 rows of one frame under a padded memory of six."""
    _dit(120, 3072, 14_336, context=720, text=128, memory=True, pdl=pdl)


def dust(pdl: bool) -> None:
    """DUST's trunk: 17 action and 64 vision rows in a joint block, then 240 feature rows."""
    width = 1536
    weights = StreamLayerWeights(
        qkv=_affine(3 * width, width),
        out=_affine(width, width),
        up=_affine(4 * width, width),
        down=_affine(width, 4 * width),
        heads=32,
        eps=1e-6,
    )
    mod = StreamModulationRows.of(_bf16(6 * width), width=width)
    rows, runs = (17, 64), [weights.run(n, pdl=pdl) for n in (17, 64)]
    for count, run in zip(rows, runs, strict=True):
        stream_qkv(weights, _bf16(count, width), run, mod=mod)
    for count, run, other in zip(rows, runs, reversed(runs), strict=True):
        stream_layer(weights, _bf16(count, width), run, mod=mod, joint=other)
    features = ContextRows(_bf16(240, width), _bf16(240, width))
    mask = torch.empty(1, 240, dtype=torch.bool, device="meta")
    stream_layer(weights, _bf16(17, width), runs[0], mod=mod, features=features, mask=mask)


def ud_vla(pdl: bool) -> None:
    """UD-VLA's Emu3: 817 generated rows behind 766 kept ones, 32 heads over 8 of keys."""
    width, keys, ffn, rows, kept = 4096, 1024, 14_336, 817, 766
    weights = GatedLayerWeights(
        norm=_bf16(width),
        qkv=Affine(_bf16(width + 2 * keys, width), None),
        out=Affine(_bf16(width, width), None),
        ffn_norm=_bf16(width),
        gate_up=Affine(_bf16(2 * ffn, width), None),
        down=Affine(_bf16(width, ffn), None),
        heads=32,
        key_heads=8,
        eps=1e-5,
    )
    gated_layer(
        weights,
        _bf16(rows, width),
        weights.run(rows, pdl=pdl),
        rope=_rope(rows, 128),
        prefix=ContextRows(_bf16(8, kept, 128), _bf16(8, kept, 128)),
        mask=torch.empty(rows, kept + rows, dtype=torch.bool, device="meta"),
    )


LAYERS: dict[str, Callable[[bool], None]] = {f.__name__: f for f in (action, prefill, dust, ud_vla)}


def _bf16(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.bfloat16, device="meta")


def _affine(outputs: int, inputs: int) -> Affine:
    return Affine(_bf16(outputs, inputs), _bf16(outputs))


def _rope(rows: int, head: int) -> Rope:
    table = torch.empty(rows, 1, head, dtype=torch.float32, device="meta")
    return Rope(table, table)


def too_large(items: Sequence[KernelLaunch], capability: int) -> str:
    """Return the first kernel that is over its budget, and what it needs; "" where all keep theirs.

    Args:
        items: from `recording`; alike ones are compiled once.
        capability: 90 for sm_90.
    """
    for item in {_kind(item): item for item in items}.values():
        if over := over_budget(compile_launch(item, capability), capability):
            return f"{item.kernel.fn.__name__}: {over[0]}"
    return ""


def _kind(item: KernelLaunch) -> tuple[object, ...]:
    """Return what the compiler sees of a launch."""
    seen = tuple(a.dtype if isinstance(a, Tensor) else a for a in item.arguments.values())
    return item.kernel.fn.__name__, *seen, item.warps, item.stages, item.pdl


def launches(layer: str, capability: int) -> list[KernelLaunch]:
    """Return the launches of one layer of `LAYERS` as a GPU of that capability would get them."""
    with recording() as items:
        LAYERS[layer](capability >= PROGRAMMATIC)
    return items


def main(arguments: list[str] | None = None) -> int:
    """Compile, print, and return 1 where a kernel is over its budget."""
    parser = argparse.ArgumentParser(description="Compile every layer and print what its kernels need.")
    parser.add_argument("what", nargs="*", help=f"of {CAPABILITIES} and {tuple(LAYERS)}; default: all")
    parser.add_argument("--json", action="store_true", help="print a list of records")
    given = parser.parse_args(arguments)
    layers = [w for w in given.what if w in LAYERS] or list(LAYERS)
    capabilities = [int(w) for w in given.what if w not in LAYERS] or list(CAPABILITIES)
    records = []
    for capability in capabilities:
        for layer in layers:
            for item in launches(layer, capability):
                resources = compile_launch(item, capability)
                record = {
                    "capability": capability,
                    "layer": layer,
                    "kernel": item.kernel.fn.__name__,
                    "grid": item.grid,
                    **dataclasses.asdict(resources),
                    "over": over_budget(resources, capability),
                }
                records.append(record)
                if not given.json:
                    print(
                        f"sm_{capability} {layer:8} {record['kernel']:24} grid {item.grid!s:14} "
                        f"registers {resources.registers:3} stack {resources.stack} "
                        f"shared {resources.shared:6} threads {resources.threads} {'; '.join(record['over'])}",
                        flush=True,
                    )
    if given.json:
        print(json.dumps(records))
    return int(any(r["over"] for r in records))


if __name__ == "__main__":
    raise SystemExit(main())
