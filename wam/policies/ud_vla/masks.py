# SPDX-License-Identifier: Apache-2.0
"""Attention masks. Rows are queries, columns are keys; `#` may attend, `.` may not.

Blocks: t text, c the images of now, f the images one chunk later, a action.

    hybrid (paper, section 3.2)     released (public code)          causal (AR, Jacobi)

          t t t c c f f a a               t t t c c f f a a               t t t c c f f a a
        t # . . . . . . . .             t # . . . . . . . .             t # . . . . . . . .
        t # # . . . . . . .             t # # . . . . . . .             t # # . . . . . . .
        t # # # . . . . . .             t # # # . . . . . .             t # # # . . . . . .
        c # # # # # . . . .             c # # # # # # # # #             c # # # # . . . . .
        c # # # # # . . . .             c # # # # # # # # #             c # # # # # . . . .
        f # # # # # # # . .             f # # # # # # # # #             f # # # # # # . . .
        f # # # # # # # . .             f # # # # # # # # #             f # # # # # # # . .
        a # # # # # # # # #             a # # # # # # # # #             a # # # # # # # # .
        a # # # # # # # # #             a # # # # # # # # #             a # # # # # # # # #

`hybrid` follows the block of each site and is the same at every step. `released` is derived from the ids that
the decoder is given: whatever lies between BOI..EOI or BOA..EOA is one undivided block, and what comes after an
EOA is text again. So a sampled EOA changes the mask of every later step, and the prefix sees what is generated:
its keys and values cannot be kept. All masks are additive (0 or minus infinity), never boolean.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wam.policies.ud_vla.sequence import PAD, TEXT
from wam.policies.ud_vla.tokens import TokenLayout


def hybrid(levels_BL: Tensor) -> Tensor:
    """Return which site may attend to which, by the paper's rule.

    Args:
        levels_BL: block number of every site; -1 is padding.

    Returns:
        bool [B, L, L]; nobody sees padding, and padding sees everything else.
    """
    query, key = levels_BL[:, :, None], levels_BL[:, None, :]
    causal = torch.ones(levels_BL.shape[1], levels_BL.shape[1], device=levels_BL.device).tril().bool()
    seen = (key < query) | ((key == query) & ((query != TEXT) | causal)) | (query == PAD)
    return (key != PAD) & seen


def released(ids_BL: Tensor, tokens: TokenLayout) -> Tensor:
    """Return which site may attend to which, by the public code's rule.

    Args:
        ids_BL: what the decoder is given, masked sites as MASK.
        tokens: ids.

    Returns:
        bool [B, L, L]; nobody sees padding.
    """
    opens = (ids_BL == tokens.boi) | (ids_BL == tokens.boa)
    closes = (ids_BL == tokens.eoi) | (ids_BL == tokens.eoa)
    depth = (opens.int() - closes.int()).cumsum(1)
    inside = (depth > 0) | opens | closes
    changes = torch.zeros_like(inside)
    changes[:, 1:] = inside[:, 1:] != inside[:, :-1]
    block = changes.int().cumsum(1)
    causal = torch.ones(ids_BL.shape[1], ids_BL.shape[1], device=ids_BL.device).tril().bool()
    allowed = block[:, None, :] <= block[:, :, None]
    return allowed & (inside[:, :, None] | causal) & (ids_BL != tokens.pad)[:, None, :]


def causal(ids_BL: Tensor, tokens: TokenLayout) -> Tensor:
    """Return the lower triangle without padding, bool [B, L, L]."""
    tril = torch.ones(ids_BL.shape[1], ids_BL.shape[1], device=ids_BL.device).tril().bool()
    return tril & (ids_BL != tokens.pad)[:, None, :]


def additive(allowed_BQK: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a mask that is added to the scores: 0 or minus infinity, [B, 1, Q, K].

    A row that may attend to nothing (padding) is left open, or its softmax would be NaN.
    """
    empty = ~allowed_BQK.any(-1, keepdim=True)
    shut = torch.full((), float("-inf"), dtype=dtype, device=allowed_BQK.device)
    return torch.where(allowed_BQK | empty, torch.zeros_like(shut), shut)[:, None]
