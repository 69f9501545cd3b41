# SPDX-License-Identifier: Apache-2.0
"""One vocabulary for text, image codes, actions and marks; the released ids are the default.

torch is imported where tensors are made, so that sizes and presets can be read without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from wam.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100
"""Label of a site that has no loss."""


def byte_order() -> tuple[int, ...]:
    """Return the 256 byte values in the order of their ids: printable ones first, then all others."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return (*printable, *(b for b in range(256) if b not in printable))


BYTE_ID: Mapping[int, int] = {byte: i for i, byte in enumerate(byte_order())}
"""Byte value -> text id. Every byte-level vocabulary of this family begins so."""


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """Where each kind of token lies in the vocabulary.

    Attributes:
        vocab_size: rows of the embedding.
        pad: fills batches up.
        boa: begin of action.
        eoa: end of action.
        eof: end of an image's codes.
        mask: a site that is not known yet.
        bos: begin of a sequence.
        img: begin of an image's codes, after its header.
        boi: begin of an image block.
        eoi: end of an image block.
        visual_start: id of image code 0.
        visual_count: size of the code book.
        action_last: id of action token 0; action token a is `action_last - a`.
        action_count: size of the action vocabulary.
    """

    vocab_size: int = 184_622
    pad: int = 151_643
    boa: int = 151_844
    eoa: int = 151_845
    eof: int = 151_847
    mask: int = 151_848
    bos: int = 151_849
    img: int = 151_851
    boi: int = 151_852
    eoi: int = 151_853
    visual_start: int = 151_854
    visual_count: int = 32_768
    action_last: int = 151_642
    action_count: int = 1_024

    def __post_init__(self) -> None:
        marks = [self.pad, self.boa, self.eoa, self.eof, self.mask, self.bos, self.img, self.boi, self.eoi]
        action, visual = self.action_range, self.visual_range
        taken = [*marks, *(m for m in (action.start, action.stop - 1, visual.start, visual.stop - 1))]
        if len(set(marks)) != len(marks) or any(m in action or m in visual for m in marks):
            raise ValueError(f"marks {marks} overlap each other, the actions {action} or the codes {visual}")
        if max(action.start, visual.start) < min(action.stop, visual.stop) or action.start < 256:
            raise ValueError(f"actions {action}, codes {visual} and the 256 byte ids overlap")
        if not 0 <= min(taken) <= max(taken) < self.vocab_size:
            raise ValueError(f"ids up to {max(taken)} do not fit a vocabulary of {self.vocab_size}")

    @property
    def visual_range(self) -> range:
        """Ids of image codes."""
        return range(self.visual_start, self.visual_start + self.visual_count)

    @property
    def action_range(self) -> range:
        """Ids of action tokens, from the last to the first."""
        return range(self.action_last - self.action_count + 1, self.action_last + 1)

    def action_vocabulary(self) -> Tensor:
        """Return the ids that an action site may take: every action token and EOA, nothing else."""
        import torch

        return torch.tensor([*self.action_range, self.eoa])

    def image_vocabulary(self, header: Sequence[int]) -> Tensor:
        """Return the ids that a site inside an image block may take.

        Args:
            header: text ids of the size headers.
        """
        import torch

        return torch.tensor([*self.visual_range, self.img, self.eof, *sorted(set(header))])

    def to_visual(self, codes: Tensor) -> Tensor:
        """Return ids of image codes.

        Raises:
            InputError: a code is outside the code book.
        """
        _require_inside(codes, 0, self.visual_count, what="image code", where="the image tokenizer")
        return codes + self.visual_start

    def to_action(self, tokens: Tensor) -> Tensor:
        """Return ids of action tokens.

        Raises:
            InputError: a token is outside the action vocabulary.
        """
        _require_inside(tokens, 0, self.action_count, what="action token", where="the action tokenizer")
        return self.action_last - tokens

    def from_visual(self, ids: Tensor) -> Tensor:
        """Return the codes of ids.

        Raises:
            InputError: an id is of another kind.
        """
        span = self.visual_range
        _require_inside(ids, span.start, span.stop, what="id of an image code", where="the sequence")
        return ids - self.visual_start

    def from_action(self, ids: Tensor) -> Tensor:
        """Return the action tokens of ids.

        Raises:
            InputError: an id is of another kind.
        """
        span = self.action_range
        _require_inside(ids, span.start, span.stop, what="id of an action token", where="the sequence")
        return self.action_last - ids

    def to_dict(self) -> dict[str, int]:
        """Return plain values for policy.yaml."""
        return asdict(self)

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> TokenLayout:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: a key is unknown or missing, or the ids overlap.
        """
        names = {f.name for f in fields(TokenLayout)}
        if set(raw) != names:
            raise ValueError(
                f"tokens: missing {sorted(names - set(raw))}, unknown {sorted(set(raw) - names)}"
            )
        return TokenLayout(**{name: int(value) for name, value in raw.items()})


RELEASED = TokenLayout()


def compact(*, visual_count: int, action_count: int) -> TokenLayout:
    """Return a layout without the 151,000 text ids, which a tiny network does not need.

    Text is bytes; then come the actions, the marks in their released order, and the codes.

    Args:
        visual_count: size of the code book.
        action_count: size of the action vocabulary.
    """
    first = 256 + action_count
    names = ("pad", "boa", "eoa", "eof", "mask", "bos", "img", "boi", "eoi")
    marks = {name: first + i for i, name in enumerate(names)}
    start = first + len(names)
    return TokenLayout(
        vocab_size=start + visual_count,
        visual_start=start,
        visual_count=visual_count,
        action_last=first - 1,
        action_count=action_count,
        **marks,
    )


def _require_inside(values: Tensor, low: int, high: int, *, what: str, where: str) -> None:
    if values.numel() and (int(values.min()) < low or int(values.max()) >= high):
        bad = values[(values < low) | (values >= high)][0]
        raise InputError(
            f"{what} of the wrong kind", value=int(bad), allowed=f"{low} .. {high - 1}", where=where
        )
