# SPDX-License-Identifier: Apache-2.0
"""Markdown as GitHub reads it (CommonMark) in the form that Python-Markdown reads in the same way."""

from __future__ import annotations

import re

ITEM = re.compile(r"^(?P<marker>[-*+]|\d{1,9}[.)])(?P<space> +)(?P<text>\S.*)$")
FENCE = re.compile(r"^(```+|~~~+)")
STEP = 4
"""Spaces by which Python-Markdown indents what belongs to an item."""


def for_python_markdown(text: str) -> str:
    """Return a page with each item of a list and what belongs to it indented by four spaces for each level.

    CommonMark counts from where the text of the item begins, so `1. ` takes three spaces and `- ` two. A list or a
    table that follows a line of text gets the empty line that Python-Markdown wants before it.
    """
    out: list[str] = []
    items: list[int] = []  # column of the text of each item that is open
    loose = False  # an empty line stands in the item above: its neighbour needs one before it
    fence = ""
    for line in text.splitlines():
        content = line.strip(" ")
        indent = len(line) - len(line.lstrip(" "))
        before = out[-1].strip() if out else ""
        if fence:
            base = items[-1] if items else 0
            out.append(_line(len(items), max(0, indent - base), content))
            fence = "" if content == fence else fence
            continue
        if not content:
            out.append("")
            loose = bool(items)
            continue
        item = ITEM.match(content)
        starts = bool(item) or bool(FENCE.match(content)) or content.startswith(("#", "|"))
        ended = False
        while items and indent < items[-1] and (starts or not before):
            items.pop()
            ended = True
        base = items[-1] if items else 0
        if item and indent - base < STEP:
            if before and (loose or not (items or ended)):
                out.append("")
            loose = False
            spaces = len(item["space"]) if len(item["space"]) <= STEP else 1
            items.append(indent + len(item["marker"]) + spaces)
            out.append(" " * (STEP * (len(items) - 1)) + item["marker"].ljust(STEP) + item["text"])
            continue
        opened = FENCE.match(content)
        if opened and indent - base < STEP:
            fence = opened[1]
        if content.startswith("|") and before and not before.startswith("|"):
            out.append("")
        out.append(_line(len(items), max(0, indent - base), content))
    return "\n".join(out) + "\n"


def _line(depth: int, rest: int, content: str) -> str:
    return " " * (STEP * depth + rest) + content if content else ""
