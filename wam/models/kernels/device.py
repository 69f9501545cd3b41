# SPDX-License-Identifier: Apache-2.0
"""What several kernels share on the device: norms of rows, activations, prefetch.

Shapes: m rows of a program, k columns of a block.
"""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from wam.models.kernels.kinds import Activation, Norm

NO_NORM: tl.constexpr = tl.constexpr(int(Norm.NONE))
LAYER_NORM: tl.constexpr = tl.constexpr(int(Norm.LAYER))

GELU: tl.constexpr = tl.constexpr(int(Activation.GELU))
SWIGLU: tl.constexpr = tl.constexpr(int(Activation.SWIGLU))

LINES: tl.constexpr = tl.constexpr(16)
LINE_BYTES: tl.constexpr = tl.constexpr(128)


@triton.jit
def gelu_tanh(x):
    """GELU by tanh, written as x * sigmoid(2 u)."""
    u = 0.7978845608028654 * (x + 0.044715 * x * x * x)
    return x * (1 - 1 / (1 + tl.exp(2 * u)))


@triton.jit
def silu(x):
    """Return x * sigmoid(x)."""
    return x / (1 + tl.exp(-x))


@triton.jit
def row_moments(x_MD, m, live, eps, D: tl.constexpr, BK: tl.constexpr, NORM: tl.constexpr):
    """Return mean and 1 / deviation of rows: of LayerNorm in two passes, of RMSNorm (mean 0) in one."""
    mean = tl.zeros_like(m).to(tl.float32)
    if NORM == LAYER_NORM:
        for k0 in range(0, D, BK):
            k = k0 + tl.arange(0, BK)
            x = tl.load(x_MD + m[:, None] * D + k[None, :], mask=live[:, None] & (k < D)[None, :], other=0.0)
            mean += tl.sum(x.to(tl.float32), 1)
        mean = mean / D
    squares = tl.zeros_like(mean)
    for k0 in range(0, D, BK):
        k = k0 + tl.arange(0, BK)
        x = tl.load(x_MD + m[:, None] * D + k[None, :], mask=live[:, None] & (k < D)[None, :], other=0.0)
        apart = tl.where((k < D)[None, :], x.to(tl.float32) - mean[:, None], 0.0)
        squares += tl.sum(apart * apart, 1)
    return mean, tl.rsqrt(squares / D + eps)


@triton.jit
def prefetch(base, rows, ld, first, length: tl.constexpr):
    """Ask for columns [first, first + length) of some rows, line by line, to be brought into L2.

    Only a hint: L2 is shared by the whole GPU, so a line that is written later is still read as written.
    """
    line: tl.constexpr = LINE_BYTES // (base.dtype.element_ty.primitive_bitwidth // 8)
    for c0 in range(0, length, LINES * line):
        c = tl.minimum(c0 + tl.arange(0, LINES) * line, length - 1)
        tl.inline_asm_elementwise(
            "prefetch.global.L2 [$1]; mov.b32 $0, 0;",
            "=r,l",
            [base + rows[:, None] * ld + first + c[None, :]],
            dtype=tl.int32,
            is_pure=False,
            pack=1,
        )


@triton.jit
def await_predecessor(PDL: tl.constexpr):
    """Let the next kernel start, then wait until everything that the kernel ahead wrote can be read.

    Every kernel waits, so a kernel that runs knows all kernels before it to have ended, not only the one ahead.
    """
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
