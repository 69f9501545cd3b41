# SPDX-License-Identifier: Apache-2.0
"""The sequence that the decoder reads.

    prefix    BOS text | BOI "1*H*W" IMG codes EOF EOI  (one block per view: the images of now)
    generated          | BOI  . . .  masked . . .  EOI  (the same blocks one chunk later) | BOA masked ...

BOI, EOI and BOA of the generated part are known beforehand ("prefilled"); everything else of it is denoised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from wam.core.errors import InputError
from wam.policies.ud_vla.tokens import BYTE_ID, TokenLayout

Grid = tuple[int, int]
"""Rows and columns of an image in codes."""

TEXT, CURRENT, FUTURE, ACTION, PAD = 0, 1, 2, 3, -1
"""Block numbers of the sites; attention never looks to a higher one."""


def header_ids(grid: Grid) -> tuple[int, ...]:
    """Return the text ids of the size header "1*H*W", one id per character."""
    return tuple(BYTE_ID[byte] for byte in f"1*{grid[0]}*{grid[1]}".encode("ascii"))


@dataclass(frozen=True)
class SequenceLayout:
    """Sizes of the parts.

    Attributes:
        tokens: ids.
        grids: codes per view, in the order of the policy's cameras.
        action_len: A, sites of the action block with its BOA.
    """

    tokens: TokenLayout
    grids: tuple[Grid, ...]
    action_len: int

    def __post_init__(self) -> None:
        if not self.grids or any(h < 1 or w < 1 for h, w in self.grids):
            raise ValueError(f"every view needs at least one code: {self.grids}")
        if self.action_len < 2:
            raise ValueError(f"action_len is {self.action_len}, needs BOA and at least one site")

    @cached_property
    def view_lens(self) -> tuple[int, ...]:
        """Sites of each view's block."""
        return tuple(len(header_ids(g)) + g[0] * g[1] + 4 for g in self.grids)

    @property
    def image_len(self) -> int:
        """I, sites of all views of one time."""
        return sum(self.view_lens)

    @property
    def generated_len(self) -> int:
        """G, sites that are generated."""
        return self.image_len + self.action_len

    def image_block(self, codes: Sequence[Tensor]) -> Tensor:
        """Return the ids of the views of one time [I].

        Args:
            codes: int64 [H, W] per view.

        Raises:
            InputError: a view is missing, has another size, or a code is outside the code book.
        """
        if len(codes) != len(self.grids):
            raise InputError(
                f"{len(codes)} views", allowed=f"{len(self.grids)}", where="the cameras of policy.yaml"
            )
        t, parts = self.tokens, []
        for i, (code, grid) in enumerate(zip(codes, self.grids, strict=True)):
            if tuple(code.shape) != grid:
                raise InputError(
                    f"view {i} has {tuple(code.shape)} codes",
                    allowed=f"{grid}",
                    where="the cameras of policy.yaml",
                )
            parts += [torch.tensor([t.boi, *header_ids(grid), t.img])]
            parts += [t.to_visual(code.flatten().long().cpu()), torch.tensor([t.eof, t.eoi])]
        return torch.cat(parts)

    def prefix(self, text_ids: Sequence[int] | Tensor, codes: Sequence[Tensor]) -> Tensor:
        """Return BOS, text and the images of now [P].

        Args:
            text_ids: of the instruction, without BOS.
            codes: int64 [H, W] per view.
        """
        text = torch.as_tensor(text_ids, dtype=torch.int64)
        return torch.cat((torch.tensor([self.tokens.bos]), text, self.image_block(codes)))

    def action_block(self, tokens: Sequence[int] | Tensor) -> Tensor:
        """Return BOA, the action ids, EOA and MASK up to A sites.

        Raises:
            InputError: the chunk does not fit, or a token is outside the action vocabulary.
        """
        ids = self.tokens.to_action(torch.as_tensor(tokens, dtype=torch.int64))
        room = self.action_len - 2
        if len(ids) > room:
            raise InputError(
                f"an action chunk of {len(ids)} tokens does not fit the action block",
                allowed=f"at most {room} (action_len {self.action_len} less BOA and EOA)",
                where="action_len, the chunk length, or the scale of the action tokenizer",
            )
        out = torch.full((self.action_len,), self.tokens.mask)
        out[0] = self.tokens.boa
        out[1 : 1 + len(ids)] = ids
        out[1 + len(ids)] = self.tokens.eoa
        return out

    @cached_property
    def start(self) -> Tensor:
        """The generated part before the first step [G]: prefilled marks and MASK."""
        t, parts = self.tokens, []
        for size in self.view_lens:
            block = torch.full((size,), t.mask)
            block[0], block[-1] = t.boi, t.eoi
            parts.append(block)
        action = torch.full((self.action_len,), t.mask)
        action[0] = t.boa
        return torch.cat((*parts, action))

    @cached_property
    def levels(self) -> Tensor:
        """Block number of every generated site [G]."""
        return torch.tensor([FUTURE] * self.image_len + [ACTION] * self.action_len)

    def all_levels(self, text_len: int) -> Tensor:
        """Return the block number of every site.

        Args:
            text_len: sites of the text with BOS.
        """
        head = torch.tensor([TEXT] * text_len + [CURRENT] * self.image_len)
        return torch.cat((head, self.levels))

    def codes_of(self, image_ids: Tensor) -> tuple[Tensor, ...]:
        """Return the image codes of an image block [I], one [H, W] per view.

        Raises:
            InputError: an id between IMG and EOF is no image code.
        """
        out, at = [], 0
        for grid, size in zip(self.grids, self.view_lens, strict=True):
            first = at + len(header_ids(grid)) + 2
            out.append(self.tokens.from_visual(image_ids[first : first + grid[0] * grid[1]]).reshape(grid))
            at += size
        return tuple(out)

    def action_ids_of(self, action_ids: Tensor) -> Tensor:
        """Return the ids between BOA and the first EOA (or the end) of an action block [A]."""
        body = action_ids[1:]
        ends = (body == self.tokens.eoa).nonzero()
        return body[: int(ends[0])] if len(ends) else body

    def image_vocabulary(self) -> Tensor:
        """Return the ids that a generated image site may take."""
        return self.tokens.image_vocabulary([i for grid in self.grids for i in header_ids(grid)])
