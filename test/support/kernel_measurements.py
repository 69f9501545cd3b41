# SPDX-License-Identifier: Apache-2.0
"""Measurements of the Triton kernels in Triton's interpreter, as a process of its own.

    request   one JSON line on the standard input: {"name": ..., "arguments": {...}}
    answer    one JSON line on the standard output: what the function of that name returned

Triton decides when it is imported whether functions are interpreted; a process of its own keeps that from the tests
that share a process with this one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
from torch import Tensor, nn
from triton.runtime import interpreter

from wam.models.kernels.attention import ContextRows, Projected, attention
from wam.models.kernels.dit_layer import DitLayerWeights, dit_layer
from wam.models.kernels.dit_stack import ActionKernels, DitKernels
from wam.models.kernels.gated_layer import GatedLayerWeights, gated_layer, halves
from wam.models.kernels.launch import recording
from wam.models.kernels.project_residual import project_residual
from wam.models.kernels.stream_layer import StreamLayerWeights, StreamModulationRows, stream_layer, stream_qkv
from wam.models.kernels.tiles import Tiles
from wam.models.layers.attention import attend
from wam.models.layers.dit_block import DitBlock, Modulation
from wam.models.layers.flow import sigma_grid
from wam.models.layers.rope import rope_1d, rope_3d
from wam.policies.aha_wam.config import tiny
from wam.policies.aha_wam.video_dit import LayerKv
from wam.policies.dust.blocks import StreamBlock, joint_attention
from wam.policies.dust.readings import BlockStyle

torch.set_num_threads(1)
torch.set_grad_enabled(False)

TILE = 16
"""Columns per tile at tiny sizes, so that every loop turns more than once."""


def repaired_dot(original: Callable[..., Any]) -> Callable[..., Any]:
    """Widen bfloat16 before a product: the interpreter stores it as uint16 and multiplies the bit patterns."""

    def dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        def wide(x: Any) -> Any:
            if x.dtype.scalar.name != "bf16":
                return x
            return interpreter.TensorHandle(
                (x.data.astype(np.uint32) << 16).view(np.float32), interpreter.tl.float32
            )

        return original(self, wide(a), wide(b), *rest)

    return dot


def repaired_cast(original: Callable[..., Any]) -> Callable[..., Any]:
    """Round float32 to the nearest bfloat16, as a GPU does: the interpreter cuts the lower bits off."""

    def cast(self: Any, source: Any, target: Any) -> Any:
        if source.dtype.scalar.name != "fp32" or target.scalar.name != "bf16":
            return original(self, source, target)
        rounded = torch.from_numpy(np.ascontiguousarray(source.data)).bfloat16()
        bits = rounded.view(torch.int16).numpy().view(np.uint16).reshape(source.data.shape)
        return interpreter.TensorHandle(bits, target.scalar)

    return cast


interpreter.InterpreterBuilder.cast_impl = repaired_cast(interpreter.InterpreterBuilder.cast_impl)
interpreter.InterpreterBuilder.create_dot = repaired_dot(interpreter.InterpreterBuilder.create_dot)


def relative(have: Tensor, want: Tensor) -> float:
    """Return the greatest difference over the greatest value."""
    return float((have.float() - want.float()).abs().max() / want.float().abs().max())


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Give every parameter a size at which all branches of a layer matter."""
    generator = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p.copy_(torch.randn(p.shape, generator=generator) * (p.shape[-1] ** -0.5 if p.dim() > 1 else 0.3))


@dataclass(frozen=True)
class DitCase:
    """One block with its inputs."""

    block: DitBlock
    x: Tensor
    mod: Tensor
    rope: Any
    context: tuple[Tensor, Tensor]
    text: tuple[Tensor, Tensor]

    def to(self, dtype: torch.dtype) -> DitCase:
        """Round all but the rotation."""
        block = DitBlock(**SIZES[len(self.mod[0])])
        block.load_state_dict(self.block.state_dict())
        pairs = [(k.to(dtype), v.to(dtype)) for k, v in (self.context, self.text)]
        return DitCase(block.to(dtype), self.x.to(dtype), self.mod.to(dtype), self.rope, *pairs)

    def eager(self) -> Tensor:
        """Return what the module computes."""
        mod = Modulation(*self.mod.unbind(0))
        qkv = self.block.before_attention(self.x[None], mod, self.rope)
        k, v = (
            torch.cat((rows[None], own), 1) for rows, own in zip(self.context, (qkv.k, qkv.v), strict=True)
        )
        attended = attend(qkv.q, k, v, heads=self.block.heads)
        text_k, text_v = (rows[None] for rows in self.text)
        return self.block.after_attention(self.x[None], attended, mod, text_k=text_k, text_v=text_v)[0]

    def kernels(self, columns: int) -> Tensor:
        """Return what the kernels compute."""
        weights = DitLayerWeights.of(self.block)
        return dit_layer(
            weights,
            self.x,
            weights.run(len(self.x), columns=columns),
            modulation_6D=self.mod,
            rope=self.rope,
            text=ContextRows(*self.text),
            context=ContextRows(*self.context),
        ).clone()


SIZES = {
    48: {"width": 48, "inner": 64, "ffn": 96, "heads": 2, "eps": 1e-6},
    1024: {"width": 1024, "inner": 3072, "ffn": 4096, "heads": 24, "eps": 1e-6},
}


def dit_case(rows: int, *, width: int = 48, context: int = 70, text: int = 33) -> DitCase:
    sizes = SIZES[width]
    block = DitBlock(**sizes).eval()
    randomise(block)
    torch.manual_seed(1)
    inner = int(sizes["inner"])
    k, v = torch.randn(2, context, inner)
    text_k, text_v = torch.randn(2, text, inner)
    rope = rope_1d(torch.arange(16, 16 + rows), head_dim=inner // int(sizes["heads"]))
    return DitCase(block, torch.randn(rows, width), torch.randn(6, width), rope, (k, v), (text_k, text_v))


def dit(
    rows: int, width: int = 48, columns: int = TILE, context: int = 70, text: int = 33
) -> dict[str, float]:
    """Compare a layer in float32, and in bfloat16 beside the eager module's own rounding."""
    case = dit_case(rows, width=width, context=context, text=text)
    want, low = case.eager(), case.to(torch.bfloat16)
    return {
        "float32": relative(case.kernels(columns), want),
        "bfloat16": relative(low.kernels(columns), want),
        "bfloat16_eager": relative(low.eager(), want),
    }


def dit_float32(rows: int, width: int, columns: int, context: int, text: int) -> float:
    case = dit_case(rows, width=width, context=context, text=text)
    return relative(case.kernels(columns), case.eager())


def dit_launches(rows: int) -> list[str]:
    """Return the names of a layer's kernels in their order."""
    case = dit_case(rows)
    with recording() as items:
        case.kernels(TILE)
    return [item.kernel.fn.__name__ for item in items]


def dit_changes() -> dict[str, float]:
    """Return how far a layer's result moves when one of its inputs changes."""
    case = dit_case(16)
    base = case.kernels(TILE)
    order = torch.randperm(70, generator=torch.Generator().manual_seed(2))

    def changed(rows: tuple[Tensor, Tensor], row: int) -> tuple[Tensor, Tensor]:
        k, v = rows[0].clone(), rows[1].clone()
        k[row] += 1
        v[row] += 1
        return k, v

    cases = {
        "permuted context": replace(case, context=(case.context[0][order], case.context[1][order])),
        "permuted text": replace(case, text=(case.text[0].flip(0), case.text[1].flip(0))),
        "last context row": replace(case, context=changed(case.context, -1)),
        "proprioceptive row": replace(case, text=changed(case.text, -1)),
        "rotation": replace(case, rope=rope_1d(torch.arange(32, 48), head_dim=32)),
    }
    return {name: relative(other.kernels(TILE), base) for name, other in cases.items()}


@contextmanager
def reversed_programs(grid: tuple[int, int, int]) -> Any:
    """Let the programs of a launch run in the opposite order."""
    builder = interpreter.InterpreterBuilder
    original = builder.set_grid_idx

    def backwards(self: Any, x: int, y: int, z: int) -> None:
        original(self, grid[0] - 1 - x, grid[1] - 1 - y, grid[2] - 1 - z)

    builder.set_grid_idx = backwards
    try:
        yield
    finally:
        builder.set_grid_idx = original


def fixed_order(split: int) -> dict[str, bool]:
    """Project, gate and add twice, and once more with the programs arriving in the opposite order."""
    torch.manual_seed(3)
    M, K, N = 16, 512, 32
    a, w, x, gate, bias = (
        torch.randn(M, K),
        torch.randn(N, K),
        torch.randn(M, N),
        torch.randn(N),
        torch.randn(N),
    )
    tiles = Tiles(16, 16, 16, split=split)
    parts, done = torch.empty(split * M * N), torch.zeros(N // 16, dtype=torch.int32)

    def run() -> Tensor:
        out = torch.empty(M, N)
        project_residual(a, w, x, out, tiles=tiles, parts=parts, done=done, bias_N=bias, gate_N=gate)
        return out

    first, second = run(), run()
    with reversed_programs((N // 16, split, 1)):
        third = run()
    forward = parts.view(split, M, N).flip(0)
    other_order = torch.zeros(M, N)
    for part in forward:
        other_order += part
    in_order = torch.zeros(M, N)
    for part in forward.flip(0):
        in_order += part
    return {
        "right": torch.allclose(first, x + gate * (a @ w.T + bias), rtol=1e-4, atol=1e-4),
        "twice": torch.equal(first, second),
        "opposite arrival": torch.equal(first, third),
        "counters are zero again": not bool(done.any()),
        "order matters here": not torch.equal(in_order, other_order),
    }


def hidden_keys() -> dict[str, float]:
    """Attend under a mask whose first block of keys is hidden, and under one that hides all keys of a row."""
    torch.manual_seed(4)
    q, k, v = torch.randn(20, 32), torch.randn(150, 32), torch.randn(150, 32)
    mask = torch.rand(20, 150) < 0.3
    mask[:, :64] = False
    out = torch.empty_like(q)
    context = ContextRows(k, v)
    attention(Projected(q), out, heads=2, eps=1e-6, context=context, mask=mask)
    want = attend(q[None], k[None], v[None], heads=2, mask=mask)[0]
    mask[3] = False
    blind = torch.empty_like(q)
    attention(Projected(q), blind, heads=2, eps=1e-6, context=context, mask=mask)
    return {"difference": relative(out, want), "blind row": float(blind[3].abs().max())}


def action(steps: int) -> dict[str, float]:
    """Denoise a chunk by the tiny action DiT and by the kernels."""
    from wam.policies.aha_wam.action_dit import ActionDit
    from wam.policies.aha_wam.stages import denoise, schedule

    config = tiny()
    network = ActionDit(config).eval()
    randomise(network)
    torch.manual_seed(5)
    L, inner, rows = config.action.layers, config.action.inner, 16
    context = LayerKv(*torch.randn(2, L, 1, 24, inner))
    text = LayerKv(*torch.randn(2, L, 1, 33, inner))
    branch, noise = torch.randn(config.action.width), torch.randn(1, rows, config.action_dim)
    rope = rope_1d(torch.arange(16, 32), head_dim=config.action.head_dim)
    plan = schedule(network, sigma_grid(steps, shift_factor=5.0))

    def step(x: Tensor, **arguments: Any) -> Tensor:
        return network(x, branch=branch, **arguments)

    want = denoise(step, noise, plan=plan, context=context, text=text, rope=rope)[0]
    kernels = ActionKernels(
        network.action_encoder, list(network.blocks), network.head, rows=rows, columns=TILE
    )
    have = kernels.denoise(
        noise[0],
        sigmas=plan.sigmas,
        modulations_NL6D=plan.modulations,
        branch_D=branch,
        context=(context.k[:, 0], context.v[:, 0]),
        text=(text.k[:, 0], text.v[:, 0]),
        rope=rope,
    )
    return {"difference": relative(have, want), "moved": relative(noise[0], want)}


def prefill(memory: int, hidden: int) -> dict[str, float]:
    """Prefill by the tiny video DiT and by the kernels; the first `hidden` memory rows are masked."""
    from wam.policies.aha_wam.video_dit import VideoDit

    config = tiny()
    network = VideoDit(config).eval()
    randomise(network)
    torch.manual_seed(6)
    video, side = config.video, 6
    text = LayerKv(*torch.randn(2, video.layers, 1, 33, video.inner))
    z = torch.randn(1, config.latent_channels, 1, 2 * side, 2 * side)
    rope = rope_3d(torch.tensor([9]), rows=side, columns=side, head_dim=video.head_dim)
    old = LayerKv(*torch.randn(2, video.layers, 1, memory, video.inner)) if memory else None
    old_rope = rope_1d(torch.arange(memory), head_dim=video.head_dim) if memory else None
    mask = None
    if hidden:
        mask = torch.ones(1, memory + side * side, dtype=torch.bool)
        mask[:, :hidden] = False
    modulations = network.clean_modulations()
    want = network.prefill(
        z,
        text=text,
        modulations_L6D=modulations,
        rope=rope,
        memory=old,
        memory_rope=old_rope,
        mask=None if mask is None else mask[None, None],
    )
    have = DitKernels(list(network.blocks), rows=side * side, columns=TILE).prefill(
        network.tokens(z)[0],
        modulations_L6D=modulations,
        rope=rope,
        text=(text.k[:, 0], text.v[:, 0]),
        memory=None if old is None else (old.k[:, 0], old.v[:, 0]),
        memory_rope=old_rope,
        mask=mask,
    )
    names = ("k", "v", "plain k")
    pairs = zip(names, have, (want.k, want.v, want.k_unrotated), strict=True)
    return {name: relative(a, b[:, 0]) for name, a, b in pairs}


def stream(style: str, kind: str) -> float:
    """Run halves of a DUST block by the module and by the kernels: joint, self, features or extra."""
    width, heads = 48, 4
    extra = kind == "extra"
    halves_ = [
        StreamBlock(width, heads=heads, style=BlockStyle(style), extra_cross=extra).eval() for _ in "ab"
    ]
    for i, half in enumerate(halves_):
        randomise(half, seed=i)
    torch.manual_seed(7)
    xs = [torch.randn(1, 17, width), torch.randn(1, 40, width)]
    mods = [half.modulation(torch.randn(1, width)) for half in halves_]
    features_k, features_v = halves_[0].feature_kv(torch.randn(1, 70, width))
    mask = torch.rand(1, 70) < 0.8
    rows = ContextRows(features_k[0], features_v[0])
    weights = [
        StreamLayerWeights.of(half, extra=(half.x_q, half.x_out) if extra else None) for half in halves_
    ]
    runs = [w.run(x.shape[1], columns=TILE) for w, x in zip(weights, xs, strict=True)]
    cut = [StreamModulationRows.of(mod, width=width) for mod in mods]
    half, x, mod = halves_[0], xs[0], mods[0]
    if kind == "features":
        want = half.cross(x, mod, features_k, features_v, mask[:, None, None])
        return relative(
            stream_layer(weights[0], x[0], runs[0], mod=cut[0], features=rows, mask=mask), want[0]
        )
    for w, tokens, run, m in zip(weights, xs, runs, cut, strict=True):
        stream_qkv(w, tokens[0], run, mod=m)
    if kind == "self":
        return relative(stream_layer(weights[0], x[0], runs[0], mod=cut[0]), half.self_attention(x, mod)[0])
    attended = joint_attention([h.qkv(t, m) for h, t, m in zip(halves_, xs, mods, strict=True)], heads=heads)
    if extra:
        want = half.after(x, attended[0], mod, extra=(features_k, features_v), mask=mask[:, None, None])
        have = stream_layer(weights[0], x[0], runs[0], mod=cut[0], joint=runs[1], extra=rows, mask=mask)
        return relative(have, want[0])
    worst = 0.0
    for i, other in ((0, 1), (1, 0)):
        have = stream_layer(weights[i], xs[i][0], runs[i], mod=cut[i], joint=runs[other])
        worst = max(worst, relative(have, halves_[i].after(xs[i], attended[i], mods[i])[0]))
    return worst


def gated(rows: int, prefix: int) -> float:
    """Run one Emu3 decoder layer by the library and by the kernels, behind a kept prefix and under a mask."""
    from transformers import Emu3TextConfig
    from transformers.models.emu3.modeling_emu3 import Emu3DecoderLayer, Emu3RotaryEmbedding

    config = Emu3TextConfig(
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=96,
        attention_dropout=0.0,
    )
    config._attn_implementation = "eager"
    layer = Emu3DecoderLayer(config, 0).eval()
    randomise(layer)
    torch.manual_seed(8)
    x = torch.randn(1, rows, 64)
    kept = torch.randn(2, 1, 2, prefix, 16)
    positions = torch.arange(prefix, prefix + rows)[None]
    cos, sin = Emu3RotaryEmbedding(config)(x, positions)
    mask = torch.rand(rows, prefix + rows) < 0.7
    mask[:, 0] = True

    class Kept:
        """Stands where the library expects a cache."""

        def update(self, k: Tensor, v: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
            return torch.cat((kept[0], k), 2), torch.cat((kept[1], v), 2)

    additive = torch.zeros(1, 1, rows, prefix + rows).masked_fill(~mask, float("-inf"))
    want = layer(x, attention_mask=additive, position_embeddings=(cos, sin), past_key_values=Kept())
    weights = GatedLayerWeights.of(
        norm=layer.input_layernorm.weight,
        qkv=(layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj),
        out=layer.self_attn.o_proj,
        ffn_norm=layer.post_attention_layernorm.weight,
        gate=layer.mlp.gate_proj,
        up=layer.mlp.up_proj,
        down=layer.mlp.down_proj,
        heads=4,
        key_heads=2,
        eps=layer.input_layernorm.variance_epsilon,
    )
    have = gated_layer(
        weights,
        x[0],
        weights.run(rows, columns=TILE),
        rope=halves(cos[0], sin[0]),
        prefix=ContextRows(kept[0, 0], kept[1, 0]),
        mask=mask,
    )
    return relative(have, (want[0] if isinstance(want, tuple) else want)[0])


MEASUREMENTS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        dit,
        dit_float32,
        dit_launches,
        dit_changes,
        fixed_order,
        hidden_keys,
        action,
        prefill,
        stream,
        gated,
    )
}


def answer_with(measurements: Mapping[str, Callable[..., Any]]) -> None:
    """Answer requests until the input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        answer = measurements[request["name"]](**request["arguments"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    answer_with(MEASUREMENTS)
