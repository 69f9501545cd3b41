# SPDX-License-Identifier: Apache-2.0
"""FAST: an action chunk as a few tokens; known faults of the published tokenizer are not reproduced.

Chunk [T, D] in [-1, 1] -> orthonormal DCT-II along time -> round(coefficient * scale) -> symbols (coefficient
less the smallest one), row by row -> byte-pair encoding. Released vocabularies work on the UTF-8 bytes of the
symbols, so a wrong combination of tokens may be no text at all; vocabularies fitted here work on the symbols.

Shapes: T rows, D dimensions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.fft import dct, idct
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from wam.core.errors import BundleError, InputError
from wam.policies.ud_vla.tokens import byte_order

Array = npt.NDArray[np.float64]

FILE_NAME = "action_tokenizer.json"
FORMAT = "wam-fast/1"
MAX_SYMBOLS = 0xD800
"""Code points from here on are no characters of their own."""

_UNIT_OF_BYTE = {byte: chr(byte) if i < 188 else chr(256 + i - 188) for i, byte in enumerate(byte_order())}
_BYTE_OF_UNIT = {unit: byte for byte, unit in _UNIT_OF_BYTE.items()}


@dataclass(frozen=True, slots=True)
class FastChunk:
    """Result of decoding tokens.

    Attributes:
        rows: float64 [T, D], always in [-1, 1].
        problems: why the chunk must not be executed; empty for a good one.
    """

    rows: Array
    problems: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether the chunk may be executed."""
        return not self.problems


def coefficients(rows_TD: npt.ArrayLike, scale: float) -> npt.NDArray[np.int64]:
    """Return the rounded DCT-II coefficients [T, D].

    Args:
        rows_TD: in [-1, 1].
        scale: steps per unit.
    """
    scaled = np.around(dct(np.asarray(rows_TD, dtype=np.float64), axis=0, norm="ortho") * scale)
    out: npt.NDArray[np.int64] = scaled.astype(np.int64)
    return out


def rows_of(coefficients_TD: npt.ArrayLike, scale: float) -> Array:
    """Return the rows of rounded coefficients, not limited."""
    out: Array = idct(np.asarray(coefficients_TD, dtype=np.float64) / scale, axis=0, norm="ortho")
    return out


def rounding_bound(rows: int, scale: float) -> float:
    """Return by how much rounding may move a row at most [model units]."""
    return 0.5 / scale * (math.sqrt(1 / rows) + (rows - 1) * math.sqrt(2 / rows))


class FastTokenizer:
    """One action vocabulary.

    Args:
        bpe: over UTF-8 bytes (released) or over symbols (`fit`, `plain`).
        scale: steps per unit of a coefficient.
        min_token: smallest coefficient; it is symbol 0.
        vocab_size: tokens.

    Raises:
        ValueError: the numbers do not fit each other.
    """

    def __init__(self, bpe: Tokenizer, *, scale: float, min_token: int, vocab_size: int) -> None:
        if not (math.isfinite(scale) and scale > 0) or min_token >= 0 or 1 - 2 * min_token > MAX_SYMBOLS:
            raise ValueError(f"scale {scale} and min_token {min_token} are impossible")
        if bpe.get_vocab_size() != vocab_size:
            raise ValueError(f"the vocabulary has {bpe.get_vocab_size()} tokens, not {vocab_size}")
        self.bpe, self.scale, self.min_token, self.vocab_size = bpe, float(scale), min_token, vocab_size
        pre = json.loads(bpe.to_str())["pre_tokenizer"]
        self.byte_level = pre is not None and pre["type"] == "ByteLevel"
        units = {i: text for text, i in bpe.get_vocab().items()}
        self._bytes = [self._utf8(units[i]) for i in range(vocab_size)]

    def _utf8(self, unit: str) -> bytes:
        if self.byte_level and all(c in _BYTE_OF_UNIT for c in unit):
            return bytes(_BYTE_OF_UNIT[c] for c in unit)
        return unit.encode("utf-8")

    def encode(self, rows_TD: npt.ArrayLike) -> list[int]:
        """Return the tokens of a chunk.

        Raises:
            InputError: it is not [T, D] or holds a number that is not finite.
        """
        rows = np.asarray(rows_TD, dtype=np.float64)
        if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
            raise InputError(
                "an action chunk cannot be encoded", value=f"shape {rows.shape}", allowed="finite [T, D]"
            )
        symbols = np.clip(coefficients(rows, self.scale) - self.min_token, 0, -2 * self.min_token)
        ids: list[int] = self.bpe.encode("".join(map(chr, symbols.ravel())), add_special_tokens=False).ids
        return ids

    def decode(
        self, tokens: Sequence[int], *, rows: int, dims: int, overshoot: float | None = None
    ) -> FastChunk:
        """Decode tokens to a chunk; never raises, never leaves [-1, 1].

        Args:
            tokens: action tokens (not ids).
            rows: T.
            dims: D.
            overshoot: how far beyond [-1, 1] a good chunk may lie before it is limited; None takes what
                rounding can cause.
        """
        problems: list[str] = []
        known = [t for t in tokens if 0 <= t < self.vocab_size]
        if len(known) != len(tokens):
            problems.append(f"{len(tokens) - len(known)} tokens are outside the vocabulary")
        text = b"".join(self._bytes[t] for t in known).decode("utf-8", errors="replace")
        symbols = np.array([ord(c) for c in text], dtype=np.int64)
        broken = (symbols < 0) | (symbols > -2 * self.min_token)
        if broken.any():
            problems.append(f"{int(broken.sum())} coefficients are outside the alphabet")
        want = rows * dims
        if len(symbols) != want:
            problems.append(f"{len(symbols)} coefficients instead of {want}")
        flat = np.zeros(want, dtype=np.int64)
        some = np.where(broken, 0, symbols + self.min_token)[:want]
        flat[: len(some)] = some
        decoded = rows_of(flat.reshape(rows, dims), self.scale)
        most = rounding_bound(rows, self.scale) if overshoot is None else overshoot
        beyond = float(np.abs(decoded).max()) - 1.0
        if beyond > most:
            problems.append(f"a row lies {beyond:.3g} beyond the statistics, {most:.3g} allowed")
        return FastChunk(np.clip(decoded, -1.0, 1.0), tuple(problems))

    def to_json(self) -> str:
        """Return the text of the bundle's action tokenizer."""
        head = {"format": FORMAT, "scale": self.scale, "min_token": self.min_token}
        return json.dumps(
            {**head, "vocab_size": self.vocab_size, "bpe": json.loads(self.bpe.to_str())}, indent=0
        )

    @staticmethod
    def from_json(text: str, *, what: str) -> FastTokenizer:
        """Read what `to_json` wrote.

        Raises:
            BundleError: it is another file, or its numbers do not fit.
        """
        try:
            raw: Mapping[str, Any] = json.loads(text)
            if raw["format"] != FORMAT:
                raise BundleError(f"{what}: format", value=raw["format"], allowed=FORMAT)
            bpe = Tokenizer.from_str(json.dumps(raw["bpe"]))
            return FastTokenizer(
                bpe,
                scale=raw["scale"],
                min_token=raw["min_token"],
                vocab_size=raw["vocab_size"],
            )
        except BundleError:
            raise
        except Exception as error:
            # The parser of the tokenizers package raises plain `Exception`.
            raise BundleError(f"{what} is no action tokenizer: {error}") from error

    @staticmethod
    def from_released(directory: Path) -> FastTokenizer:
        """Read a published FAST folder: `tokenizer.json` and `processor_config.json`.

        Raises:
            BundleError: a file is missing or damaged.
        """
        try:
            config = json.loads((directory / "processor_config.json").read_text(encoding="utf-8"))
            bpe = Tokenizer.from_str((directory / "tokenizer.json").read_text(encoding="utf-8"))
            return FastTokenizer(
                bpe,
                scale=config["scale"],
                min_token=int(config["min_token"]),
                vocab_size=int(config["vocab_size"]),
            )
        except Exception as error:
            raise BundleError(
                f"{directory} holds no FAST tokenizer: {error}",
                allowed="tokenizer.json and processor_config.json as published",
            ) from error


def symbol_limit(rows: int, scale: float) -> int:
    """Return the largest coefficient of a chunk in [-1, 1], rounded."""
    return round(scale * math.sqrt(rows))


def plain(*, limit: int, scale: float) -> FastTokenizer:
    """Return a vocabulary of single coefficients from -limit to limit: one token each, nothing can be ill-formed."""
    vocab = {chr(symbol): symbol for symbol in range(2 * limit + 1)}
    return FastTokenizer(Tokenizer(BPE(vocab, [])), scale=scale, min_token=-limit, vocab_size=2 * limit + 1)


def fit(chunks: Iterable[npt.ArrayLike], *, scale: float, vocab_size: int) -> FastTokenizer:
    """Fit a vocabulary on chunks of one length, as many windows of the data as there are.

    Args:
        chunks: [T, D] each, in [-1, 1].
        scale: steps per unit.
        vocab_size: tokens; fewer where the data has too few pairs to merge.

    Raises:
        InputError: there are no chunks, their shapes differ, or the alphabet alone is larger than the vocabulary.
    """
    data = [np.asarray(chunk, dtype=np.float64) for chunk in chunks]
    shapes = {chunk.shape for chunk in data}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise InputError(
            "the chunks to fit on have different shapes", value=sorted(shapes), allowed="one [T, D]"
        )
    rows = next(iter(shapes))[0]
    quantised = [coefficients(chunk, scale) for chunk in data]
    limit = max(symbol_limit(rows, scale), max(int(np.abs(q).max()) for q in quantised))
    if 2 * limit + 1 > vocab_size:
        raise InputError(
            f"an alphabet of {2 * limit + 1} coefficients does not fit the vocabulary",
            value=vocab_size,
            allowed=f"at least {2 * limit + 1}",
            where="vocab_size, or a smaller scale",
        )
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=[chr(symbol) for symbol in range(2 * limit + 1)],
    )
    bpe = Tokenizer(BPE())
    bpe.train_from_iterator(("".join(map(chr, (q + limit).ravel())) for q in quantised), trainer)
    return FastTokenizer(bpe, scale=scale, min_token=-limit, vocab_size=bpe.get_vocab_size())
