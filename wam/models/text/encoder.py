# SPDX-License-Identifier: Apache-2.0
"""What a text encoder is, and the one for networks with random weights."""

from __future__ import annotations

import hashlib
from typing import Protocol

import torch
from torch import Tensor

from wam.core.errors import InputError


class TextEncoder(Protocol):
    """Embeds a prompt. Called from the planner's worker thread; may be slow the first time."""

    def embed(self, prompt: str) -> Tensor:
        """Return [T, E], zero rows after the last token, on the CPU.

        Raises:
            InputError: the prompt is longer than T tokens, or not known to this encoder.
        """
        ...


def pad_rows(rows_nE: Tensor, *, text_len: int, prompt: str) -> Tensor:
    """Pad with zero rows to `text_len`.

    Raises:
        InputError: there are more rows than that.
    """
    n = rows_nE.shape[0]
    if n > text_len:
        raise InputError(
            f"the instruction has {n} tokens: {prompt!r}",
            allowed=f"at most {text_len}",
            where="the instruction",
        )
    return torch.cat((rows_nE, rows_nE.new_zeros(text_len - n, rows_nE.shape[1])))


class HashTextEncoder:
    """One pseudo-random row per word: for networks with random weights, which need no text encoder.

    Args:
        text_len: T.
        width: E.
    """

    def __init__(self, *, text_len: int, width: int) -> None:
        self._text_len = text_len
        self._width = width

    def embed(self, prompt: str) -> Tensor:
        """Return rows that depend on each word and nothing else."""
        rows = []
        for word in prompt.lower().split():
            seed = int.from_bytes(hashlib.sha256(word.encode("utf-8")).digest()[:8], "little") >> 1
            rows.append(torch.randn(self._width, generator=torch.Generator().manual_seed(seed)))
        stacked = torch.stack(rows) if rows else torch.zeros(0, self._width)
        return pad_rows(stacked, text_len=self._text_len, prompt=prompt)
