# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding in real arithmetic.

Pairs are ADJACENT channels (2i, 2i+1), as in Wan. Angles are made in float64 and only their cosine and
sine are rounded, so positions of any size are exact; nothing here is complex, because complex tensors do
not export to ONNX.

Shapes: S tokens, P = head_dim // 2 pairs, B batch, H heads, D = head_dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

THETA = 10_000.0


class Rope(NamedTuple):
    """Rotation of a run of tokens.

    Attributes:
        cos: [S, 1, D], every cosine twice (for both channels of its pair).
        sin: [S, 1, D], -sin for the even and +sin for the odd channel of a pair.
    """

    cos: Tensor
    sin: Tensor


def angles(positions: Tensor, *, dim: int, theta: float = THETA) -> Tensor:
    """Return the rotation angle of each pair [rad].

    Args:
        positions: [S], any integer or float dtype.
        dim: channels that are rotated by this axis, even.
        theta: base of the geometric sequence of frequencies.

    Returns:
        float64 [S, dim // 2]: position * theta ** (-2 i / dim).
    """
    exponent = torch.arange(0, dim, 2, dtype=torch.float64, device=positions.device) / dim
    return positions.to(torch.float64)[:, None] * theta**-exponent


def from_angles(angles_SP: Tensor, *, dtype: torch.dtype = torch.float32) -> Rope:
    """Return the rotation for given angles.

    Args:
        angles_SP: float64 [S, P].
        dtype: of the cosine and sine.
    """
    cos, sin = angles_SP.cos(), angles_SP.sin()
    cos_SD = torch.stack((cos, cos), dim=-1).flatten(1)
    sin_SD = torch.stack((-sin, sin), dim=-1).flatten(1)
    return Rope(cos_SD[:, None].to(dtype), sin_SD[:, None].to(dtype))


def rope_1d(positions: Tensor, *, head_dim: int) -> Rope:
    """Return the rotation of tokens on one axis; it rotates all `head_dim` channels.

    Args:
        positions: [S] integers.
        head_dim: channels per head.
    """
    return from_angles(angles(positions, dim=head_dim))


def split_3d(head_dim: int) -> tuple[int, int, int]:
    """Return the number of channels rotated by time, row and column (128 -> 44, 42, 42)."""
    spatial = 2 * (head_dim // 6)
    return head_dim - 2 * spatial, spatial, spatial


def rope_3d(times: Tensor, *, rows: int, columns: int, head_dim: int) -> Rope:
    """Return the rotation of latent video frames, each of rows x columns tokens in raster order.

    Args:
        times: [F] temporal position of each frame, any integer or float dtype.
        rows: token rows of one frame.
        columns: token columns of one frame.
        head_dim: channels per head, split over the axes by `split_3d`.

    Returns:
        Rotation of F * rows * columns tokens.
    """
    dim_t, dim_r, dim_c = split_3d(head_dim)
    device = times.device
    grid = (len(times), rows, columns)
    t = angles(times, dim=dim_t)[:, None, None].expand(*grid, -1)
    r = angles(torch.arange(rows, device=device), dim=dim_r)[None, :, None].expand(*grid, -1)
    c = angles(torch.arange(columns, device=device), dim=dim_c)[None, None].expand(*grid, -1)
    return from_angles(torch.cat((t, r, c), dim=-1).flatten(0, 2))


def rotate(x: Tensor, rope: Rope, *, heads: int) -> Tensor:
    """Rotate queries or keys.

    Args:
        x: [B, S, H * D]; any floating dtype, rotated in the dtype of `rope` (float32) and cast back.
        rope: rotation of S tokens (batch of one) or tensors that broadcast to [B, S, 1, D].
        heads: H.

    Returns:
        [B, S, H * D], same dtype as `x`.
    """
    B, S, width = x.shape
    x_BSHD = x.view(B, S, heads, width // heads).to(rope.cos.dtype)
    swapped = x_BSHD.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return torch.addcmul(x_BSHD * rope.cos, swapped, rope.sin).to(x.dtype).view(B, S, width)


def concatenate(ropes: Sequence[Rope]) -> Rope:
    """Join the rotations of consecutive runs of tokens."""
    return Rope(torch.cat([r.cos for r in ropes]), torch.cat([r.sin for r in ropes]))
