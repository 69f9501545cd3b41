# SPDX-License-Identifier: Apache-2.0
"""Instructions as ids: the published byte-pair ranks, or single bytes for tiny vocabularies."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import regex

from wam.core.errors import BundleError
from wam.policies.ud_vla.tokens import BYTE_ID

RANKS_NAME = "text_ranks.tiktoken"

_PIECES = regex.compile(
    r"(?i:'(?:s|t|re|ve|m|ll|d))|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Where text is cut before pairs are merged; the vocabulary is meaningless with another rule."""


class TextTokenizer(Protocol):
    """Turns an instruction into ids."""

    def __call__(self, text: str) -> list[int]:
        """Return the ids of `text`."""
        ...


def byte_ids(text: str) -> list[int]:
    """Return one id per UTF-8 byte."""
    return [BYTE_ID[byte] for byte in text.encode("utf-8")]


class RankedPairs:
    """Byte-pair encoding by a published rank file (`emu3.tiktoken`): the pair of lowest rank is merged first.

    Args:
        path: lines of base64 and rank.

    Raises:
        BundleError: the file is missing or damaged, or its first 256 ranks are not the bytes.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise BundleError(f"the text vocabulary {path} is missing", where="text.file in policy.yaml")
        try:
            lines = (line.split() for line in path.read_bytes().splitlines() if line)
            self._ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in lines}
        except ValueError as error:
            raise BundleError(f"{path} is no rank file: {error}") from error
        for byte, rank in BYTE_ID.items():
            if self._ranks.get(bytes([byte])) != rank:
                raise BundleError(
                    f"{path} is the vocabulary of another tokenizer: byte {byte} has rank "
                    f"{self._ranks.get(bytes([byte]))}",
                    allowed=f"rank {rank}",
                    where="the tokenizer that was converted",
                )

    def __call__(self, text: str) -> list[int]:
        """Return the ids of a text."""
        return [rank for piece in _PIECES.findall(text) for rank in self._merge(piece.encode("utf-8"))]

    def _merge(self, piece: bytes) -> list[int]:
        parts = [bytes([b]) for b in piece]
        while len(parts) > 1:
            ranks = [self._ranks.get(a + b) for a, b in itertools.pairwise(parts)]
            known = [rank for rank in ranks if rank is not None]
            if not known:
                break
            at = ranks.index(min(known))
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return [self._ranks[part] for part in parts]


def text_tokenizer(config: Mapping[str, Any], *, directory: Path) -> TextTokenizer:
    """Return the tokenizer that the `text` section of policy.yaml names.

    Args:
        config: {"kind": "bytes"} or {"kind": "ranks", "file": name}.
        directory: of the bundle.

    Raises:
        BundleError: the kind is unknown, or the file is missing or another tokenizer's.
    """
    kind = config.get("kind")
    if kind == "bytes" and set(config) == {"kind"}:
        return byte_ids
    if kind == "ranks" and set(config) == {"kind", "file"}:
        return RankedPairs(directory / Path(str(config["file"])).name)
    raise BundleError(
        "policy.yaml: text", value=dict(config), allowed="{kind: bytes} or {kind: ranks, file: NAME}"
    )
