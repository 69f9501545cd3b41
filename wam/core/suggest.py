# SPDX-License-Identifier: Apache-2.0
"""What a mistyped word was probably meant to be: the one place that guesses, for errors and command lines alike."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

ALIKE = 0.6
"""Least share of letters in common, of 0..1; below it a guess would be noise."""


def nearest(
    word: str, known: Iterable[str], *, by_part: bool = False, alike: float = ALIKE
) -> tuple[str, ...]:
    """Return the known words that are most like `word`: one, or all that share the part that is most like it.

    Case is ignored; empty where none is alike, and where `word` is known.

    Args:
        word: what was written.
        known: what could have been meant.
        by_part: of names such as `dust/franka_box` compare the parts too: who leaves out the kind means the whole name.
        alike: least share of letters in common, of 0..1.
    """
    names = list(dict.fromkeys(known))
    by_spelling: dict[str, list[str]] = {}
    for name in names:
        for spelling in dict.fromkeys((name, *(name.split("/") if by_part else ()))):
            by_spelling.setdefault(spelling.lower(), []).append(name)
    for name in names:
        by_spelling[name.lower()] = [name]
    found = difflib.get_close_matches(word.lower(), by_spelling, n=1, cutoff=alike)
    return tuple(by_spelling[found[0]]) if found and word not in by_spelling[found[0]] else ()


def did_you_mean(word: str, known: Iterable[str], *, by_part: bool = False) -> str:
    """Return `, did you mean 'piper'?` to append to a text that names `word`, or "" where nothing is alike.

    The arguments are those of `nearest`.
    """
    guesses = nearest(word, known, by_part=by_part)
    return f", did you mean {' or '.join(map(repr, guesses))}?" if guesses else ""
