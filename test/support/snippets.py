# SPDX-License-Identifier: Apache-2.0
"""The code blocks of the pages, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md")
ASSIGNMENT = re.compile(r"^\w+=")


@dataclass(frozen=True, slots=True)
class Block:
    """A code block.

    Attributes:
        page: relative to the checkout.
        line: of the block, from 1.
        language: as the page says it; "" for none.
        text: its content.
    """

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """For messages of tests."""
        return f"{self.page}:{self.line}"

    @property
    def first_word(self) -> str:
        """The first word of the first line that says something."""
        lines = [line for line in self.text.splitlines() if line.strip() and not line.startswith("#")]
        return lines[0].split()[0] if lines else ""

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """The simple commands of a shell block, as words, without comments, variables before them and `env`."""
        text = self.text.replace("\\\n", " ")
        return tuple(one for line in text.splitlines() for one in _of_line(line))


def _of_line(line: str) -> Iterator[tuple[str, ...]]:
    reader = shlex.shlex(re.sub(r"\$\([^)]*\)", "VALUE", line), posix=True, punctuation_chars="|;&")
    reader.whitespace_split, reader.commenters = True, "#"
    words: list[str] = []
    for word in [*reader, ";"]:
        if set(word) <= set("|;&"):
            while words and (ASSIGNMENT.match(words[0]) or words[0] == "env"):
                words.pop(0)
            if words:
                yield tuple(words)
            words = []
        else:
            words.append(word)


def _parts(block: Block) -> list[Block]:
    """Return a file and the command that takes it, where a block holds both; or the block as it is."""
    parts = re.split(r"\n(?:[ \t]*\n)+(?=wam )", block.text) if not block.language else [block.text]
    if len(parts) == 1 or block.text.startswith("wam "):
        return [block]
    found, line = [], block.line
    for part in parts:
        found.append(Block(block.page, line, "", part.rstrip("\n") + "\n"))
        line += part.count("\n") + 2
    return found


@cache
def blocks() -> tuple[Block, ...]:
    """Return every code block of every page."""
    reader = MarkdownIt("commonmark").enable("table")
    found = []
    for path in (*(ROOT / name for name in PAGES), *sorted((ROOT / "docs").rglob("*.md"))):
        for token in reader.parse(path.read_text(encoding="utf-8")):
            if token.type in ("code_block", "fence") and token.map is not None:
                page = path.relative_to(ROOT).as_posix()
                found += _parts(Block(page, token.map[0] + 1, token.info.strip(), token.content))
    return tuple(found)


@cache
def inline_codes() -> tuple[Block, ...]:
    """Return the code within sentences and tables of every page, each as a block."""
    reader = MarkdownIt("commonmark").enable("table")
    found = []
    for path in (*(ROOT / name for name in PAGES), *sorted((ROOT / "docs").rglob("*.md"))):
        page = path.relative_to(ROOT).as_posix()
        for token in reader.parse(path.read_text(encoding="utf-8")):
            line = token.map[0] + 1 if token.map is not None else 0
            found += [
                Block(page, line, "", one.content)
                for one in token.children or ()
                if one.type == "code_inline"
            ]
    return tuple(found)
