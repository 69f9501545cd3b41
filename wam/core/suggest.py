# SPDX-License-Identifier: Apache-2.0
"""What a mistyped word was probably meant to be: the one place that guesses, for errors and command lines alike."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

ALIKE = 0.6
"""Least share of letters in common, of 0..1; below it a guess would be noise."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is most like `word`, or None where none is alike.

    Case is ignored, and of names such as `dust/franka_box` the parts are compared too: who leaves out the kind means
    the whole name.
    """
    names = list(dict.fromkeys(known))
    by_spelling: dict[str, str] = {}
    for name in names:
        for spelling in (name, *name.split("/")):
            by_spelling.setdefault(spelling.lower(), name)
    for name in names:
        by_spelling[name.lower()] = name
    found = difflib.get_close_matches(word.lower(), by_spelling, n=1, cutoff=ALIKE)
    return by_spelling[found[0]] if found and by_spelling[found[0]] != word else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean 'piper'?` to append to a text that names `word`, or "" where nothing is alike."""
    guess = nearest(word, known)
    return f", did you mean {guess!r}?" if guess else ""
