# SPDX-License-Identifier: Apache-2.0
"""Attention of few rows to context rows and to each other; norm and rotation of q and k happen on the way in.

Shapes: M query rows, S context rows, OWN own rows, WQ and WK widths of all heads of q and k, H of one.

           context S            own O
         +---------+---------+----------+      one program per head and BM queries; it walks along the keys
  M rows |   64    |   64    | 64 or 16 |      in blocks with a running softmax, so that it never holds
         +---------+---------+----------+      more than one block in registers

q, own k   projections as `norm_project` wrote them: an RMSNorm over the whole width is finished here from
           the sums of squares of its tiles, then the rows are rotated
context    keys ready to use, or (a memory of earlier images) still to be rotated; two pointers instead of
           one concatenated tensor
heads      of keys may be fewer than of queries (grouped); a head's width needs to be no power of two
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from wam.models.kernels.device import await_predecessor, prefetch
from wam.models.kernels.kinds import RotaryPairing
from wam.models.kernels.launch import KernelLaunch, launch
from wam.models.layers.rope import Rope

ADJACENT: tl.constexpr = tl.constexpr(int(RotaryPairing.ADJACENT))
LOG2_E = 1.4426950408889634
KEYS = 64


@triton.jit
def normalised(
    x_RH, weight_H, squares_RT, r, live, ldt, width, eps, live_c, T: tl.constexpr, TP: tl.constexpr
):
    """Return rows in float32; with a weight, their RMSNorm over `width` columns of which these are one head."""
    x_RH = x_RH.to(tl.float32)
    if weight_H is not None:
        t = tl.arange(0, TP)
        squares = tl.load(
            squares_RT + r[:, None] * ldt + t[None, :], mask=live[:, None] & (t < T)[None, :], other=0.0
        )
        weight = tl.load(weight_H, mask=live_c, other=0.0).to(tl.float32)
        x_RH = x_RH * tl.rsqrt(tl.sum(squares, 1) / width + eps)[:, None] * weight[None, :]
    return x_RH


@triton.jit
def rotated(x_RH, cos_RH, sin_RH, r, c, live, R: tl.constexpr, H: tl.constexpr, PAIRING: tl.constexpr):
    """Return x * cos + partner * sin, where the sine's sign belongs to the channel."""
    if PAIRING == ADJACENT:
        even, odd = tl.split(tl.reshape(x_RH, (R, H // 2, 2)))
        partner = tl.reshape(tl.join(odd, even), (R, H))
    else:
        low, high = tl.split(tl.permute(tl.reshape(x_RH, (R, 2, H // 2)), (0, 2, 1)))
        partner = tl.reshape(tl.permute(tl.join(high, low), (0, 2, 1)), (R, H))
    where = r[:, None] * H + c[None, :]
    cos = tl.load(cos_RH + where, mask=live[:, None], other=0.0)
    return x_RH * cos + partner * tl.load(sin_RH + where, mask=live[:, None], other=0.0)


@triton.jit
def absorb(q_MH, k_RH, v_RH, live, mask_MR, scale, sums_MH, total_M, top_M, masked: tl.constexpr):
    """Take one block of keys into the running softmax."""
    scores = tl.dot(q_MH, tl.trans(k_RH), input_precision="ieee") * scale
    visible = live[None, :]
    if masked:
        visible = visible & mask_MR
    scores = tl.where(visible, scores, float("-inf"))
    new = tl.maximum(top_M, tl.max(scores, 1))
    # A row that has seen no visible key yet has no maximum; any finite one leaves its sums at zero.
    base = tl.where(new == float("-inf"), 0.0, new)
    p = tl.exp2(scores - base[:, None])
    keep = tl.exp2(top_M - base)
    sums = sums_MH * keep[:, None] + tl.dot(p.to(v_RH.dtype), v_RH, input_precision="ieee")
    return sums, total_M * keep + tl.sum(p, 1), new


@triton.jit
def attention_kernel(
    q_MI,
    q_weight_I,
    q_squares_MT,
    context_k_SJ,
    context_v_SJ,
    context_cos_SH,
    context_sin_SH,
    own_k_OJ,
    own_v_OJ,
    k_weight_J,
    k_squares_OT,
    cos_OH,
    sin_OH,
    mask_MK,
    out_MI,
    plain_k_OJ,
    final_k_OJ,
    M,
    S,
    OWN,
    ldq,
    ldc,
    ldh,
    ldo,
    ldt,
    ldm,
    eps,
    scale,
    WQ: tl.constexpr,
    WK: tl.constexpr,
    TQ: tl.constexpr,
    TK: tl.constexpr,
    TP: tl.constexpr,
    H: tl.constexpr,
    HP: tl.constexpr,
    GROUP: tl.constexpr,
    PAIRING: tl.constexpr,
    BM: tl.constexpr,
    BS: tl.constexpr,
    BO: tl.constexpr,
    PDL: tl.constexpr,
):
    """Write one head of BM rows; a pointer that is None leaves its part out."""
    head = tl.program_id(0) * H
    group = tl.program_id(0) // GROUP * H
    shelf = tl.program_id(0) // GROUP * ldh
    m = tl.program_id(1) * BM + tl.arange(0, BM)
    c = tl.arange(0, HP)
    live_m, live_c = m < M, c < H
    if PDL and context_k_SJ is not None:
        for j0 in range(0, S, BS):
            j = tl.minimum(j0 + tl.arange(0, BS), S - 1)
            prefetch(context_k_SJ, j, ldc, shelf, H)
            prefetch(context_v_SJ, j, ldc, shelf, H)
    await_predecessor(PDL)

    q = tl.load(
        q_MI + m[:, None] * ldq + head + c[None, :], mask=live_m[:, None] & live_c[None, :], other=0.0
    )
    kind = q.dtype
    weight = q_weight_I + head + c if q_weight_I is not None else None
    q = normalised(q, weight, q_squares_MT, m, live_m, ldt, WQ, eps, live_c, TQ, TP)
    if cos_OH is not None:
        q = rotated(q, cos_OH, sin_OH, m, c, live_m, BM, HP, PAIRING)
    q = q.to(kind)

    sums = tl.zeros((BM, HP), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    top = tl.full((BM,), float("-inf"), tl.float32)
    if context_k_SJ is not None:
        for j0 in range(0, S, BS):
            j = j0 + tl.arange(0, BS)
            live = j < S
            where = j[:, None] * ldc + shelf + c[None, :]
            k = tl.load(context_k_SJ + where, mask=live[:, None] & live_c[None, :], other=0.0)
            v = tl.load(context_v_SJ + where, mask=live[:, None] & live_c[None, :], other=0.0)
            if context_cos_SH is not None:
                k = rotated(k.to(tl.float32), context_cos_SH, context_sin_SH, j, c, live, BS, HP, PAIRING).to(
                    kind
                )
            seen = live[None, :]
            if mask_MK is not None:
                seen = tl.load(
                    mask_MK + m[:, None] * ldm + j[None, :], mask=live_m[:, None] & live[None, :], other=0
                ).to(tl.int1)
            sums, total, top = absorb(q, k, v, live, seen, scale, sums, total, top, mask_MK is not None)
    if own_k_OJ is not None:
        # One program per head of keys stores them.
        writer = tl.where(tl.program_id(1) + tl.program_id(0) % GROUP == 0, 1, 0)
        for j0 in range(0, OWN, BO):
            j = j0 + tl.arange(0, BO)
            live = j < OWN
            there = live[:, None] & live_c[None, :]
            where = j[:, None] * ldo + group + c[None, :]
            k = tl.load(own_k_OJ + where, mask=there, other=0.0)
            v = tl.load(own_v_OJ + where, mask=there, other=0.0)
            norm = k_weight_J + group + c if k_weight_J is not None else None
            k = normalised(k, norm, k_squares_OT, j, live, ldt, WK, eps, live_c, TK, TP)
            out = j[:, None] * WK + group + c[None, :]
            writes = there & (j < writer * OWN)[:, None]
            if plain_k_OJ is not None:
                tl.store(plain_k_OJ + out, k.to(kind), mask=writes)
            if cos_OH is not None:
                k = rotated(k, cos_OH, sin_OH, j, c, live, BO, HP, PAIRING)
            k = k.to(kind)
            if final_k_OJ is not None:
                tl.store(final_k_OJ + out, k, mask=writes)
            seen = live[None, :]
            if mask_MK is not None:
                seen = tl.load(
                    mask_MK + m[:, None] * ldm + S + j[None, :], mask=live_m[:, None] & live[None, :], other=0
                ).to(tl.int1)
            sums, total, top = absorb(q, k, v, live, seen, scale, sums, total, top, mask_MK is not None)
    result = sums / tl.where(total == 0.0, 1.0, total)[:, None]
    tl.store(
        out_MI + m[:, None] * WQ + head + c[None, :],
        result.to(out_MI.dtype.element_ty),
        mask=live_m[:, None] & live_c[None, :],
    )


@dataclass(frozen=True, slots=True)
class Projected:
    """Queries or keys as `norm_project` wrote them.

    Attributes:
        rows: [M, width], a view of some columns of one tensor.
        weight: [width] of an RMSNorm over all of them; None is no norm.
        squares: float32 [M, tiles], a view of the columns that belong to `rows`; None without a norm.
    """

    rows: torch.Tensor
    weight: torch.Tensor | None = None
    squares: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class ContextRows:
    """Rows that are read only.

    Attributes:
        k: [S, width], strided along S; or [key heads, S, head width], as caches of language models are.
        v: shaped and strided alike.
        rope: rotation of the keys; None where they are rotated already, or never.
    """

    k: torch.Tensor
    v: torch.Tensor
    rope: Rope | None = None


@dataclass(frozen=True, slots=True)
class OwnRows:
    """Keys and values of the rows that ask.

    Attributes:
        k: keys.
        v: [M, width], strided as the keys.
        plain_k: [M, width], receives the normalised keys before rotation; None stores none.
        final_k: [M, width], receives them after it; None stores none.
    """

    k: Projected
    v: torch.Tensor
    plain_k: torch.Tensor | None = None
    final_k: torch.Tensor | None = None


def attention(
    q: Projected,
    out_MI: torch.Tensor,
    *,
    heads: int,
    eps: float,
    context: ContextRows | None = None,
    own: OwnRows | None = None,
    key_heads: int | None = None,
    rope: Rope | None = None,
    pairing: RotaryPairing = RotaryPairing.ADJACENT,
    mask: torch.Tensor | None = None,
    pdl: bool = False,
) -> None:
    """Write softmax attention with scale 1 / sqrt(head width) over context and own rows.

    Args:
        q: queries.
        out_MI: written, contiguous.
        heads: of the queries.
        eps: of the norms of q and k.
        context: rows that are read only; None has none.
        own: the asking rows' own keys and values; None has none.
        key_heads: of keys and values, divides `heads`; None is as many.
        rope: rotation of the M rows; None rotates nothing.
        pairing: of both rotations.
        mask: bool [M or 1, S + OWN], True = visible, columns contiguous; None shows everything.
        pdl: launch before the kernel ahead has ended.

    Raises:
        ValueError: rows shall be rotated, and a head's width is no power of two.
    """
    M, width = q.rows.shape
    H, key_heads = width // heads, key_heads or heads
    padded = triton.next_power_of_2(max(H, 16))
    if (rope is not None or (context is not None and context.rope is not None)) and padded != H:
        raise ValueError(f"heads of width {H} cannot be rotated, only of a power of two from 16")
    rows, S, own_rows = 16 if M <= 16 else 32, context.k.shape[-2] if context else 0, M if own else 0
    squares = [p.squares for p in ((q, own.k) if own else (q,)) if p.squares is not None]
    own_block = min(KEYS, max(16, triton.next_power_of_2(M)))
    # Rotating a block of 64 keys needs four times its size in registers.
    turns = (rope is not None and own is not None and own_block == KEYS) or bool(context and context.rope)
    cos, sin = _tables(rope)
    context_cos, context_sin = _tables(context.rope if context else None)
    launch(
        KernelLaunch(
            attention_kernel,
            (heads, triton.cdiv(M, rows)),
            {
                "q_MI": q.rows,
                "q_weight_I": q.weight,
                "q_squares_MT": q.squares,
                "context_k_SJ": context.k if context else None,
                "context_v_SJ": context.v if context else None,
                "context_cos_SH": context_cos,
                "context_sin_SH": context_sin,
                "own_k_OJ": own.k.rows if own else None,
                "own_v_OJ": own.v if own else None,
                "k_weight_J": own.k.weight if own else None,
                "k_squares_OT": own.k.squares if own else None,
                "cos_OH": cos,
                "sin_OH": sin,
                "mask_MK": None if mask is None else mask.view(torch.uint8),
                "out_MI": out_MI,
                "plain_k_OJ": own.plain_k if own else None,
                "final_k_OJ": own.final_k if own else None,
                "M": M,
                "S": S,
                "OWN": own_rows,
                "ldq": q.rows.stride(0),
                "ldc": context.k.stride(-2) if context else 0,
                "ldh": 0 if context is None else H if context.k.dim() == 2 else context.k.stride(0),
                "ldo": own.k.rows.stride(0) if own else 0,
                "ldt": squares[0].stride(0) if squares else 0,
                "ldm": 0 if mask is None or mask.shape[0] == 1 else mask.stride(0),
                "eps": eps,
                "scale": LOG2_E * H**-0.5,
                "WQ": width,
                "WK": key_heads * H,
                "TQ": 0 if q.squares is None else q.squares.shape[1],
                "TK": 0 if own is None or own.k.squares is None else own.k.squares.shape[1],
                "TP": triton.next_power_of_2(max((s.shape[1] for s in squares), default=1)),
                "H": H,
                "HP": padded,
                "GROUP": heads // key_heads,
                "PAIRING": int(pairing),
                "BM": rows,
                "BS": KEYS,
                "BO": own_block,
            },
            warps=8 if turns else 4,
            stages=1 if turns else 2,
            pdl=pdl,
        )
    )


def _tables(rope: Rope | None) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return cosine and sine as [rows, head width]."""
    return (None, None) if rope is None else (rope.cos.flatten(1), rope.sin.flatten(1))
