# SPDX-License-Identifier: Apache-2.0
"""Numbers of things in sentences for people."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: "1 gap", "3 gaps".

    Args:
        number: of the things.
        noun: for one of them.
        plural: for several; "" adds an "s" to `noun`.
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
