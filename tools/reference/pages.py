# SPDX-License-Identifier: Apache-2.0
"""What the generated pages share: their place, their first lines, tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = Path("docs") / "reference"
HERE = Path(__file__).resolve().parent
COMMAND = "tools/setup/env.sh .venv/bin/python -m tools.reference"


class StaleEntry(Exception):
    """What is written by hand does not fit the code; the text says which entry, in which file."""


def head(title: str) -> str:
    """Return the first lines of a page."""
    return f"<!-- SPDX-License-Identifier: Apache-2.0; made by `{COMMAND}`: do not edit -->\n\n# {title}\n"


def foot(source: str) -> str:
    """Return the last lines of a page that is made of `source`, in Markdown."""
    return f"\n---\n\nMade of {source}; a test holds the page to it. `{COMMAND}` writes it anew.\n"


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    lines += [f"| {' | '.join(cell(one) for one in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """Return a text that may stand in a cell."""
    return " ".join(text.split()).replace("|", "\\|")


def sentence(text: str) -> str:
    """Return a text with a capital letter and a full stop, unless it begins with code."""
    text = text.strip()
    if not text:
        return text
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?", ":")) else ".")


def by_hand(name: str) -> Mapping[str, Any]:
    """Return what a YAML file beside this one holds."""
    content = yaml.safe_load((HERE / name).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise StaleEntry(f"tools/reference/{name}: a mapping is expected")
    return content


def same_names(*, code: Iterable[str], written: Iterable[str], file: str, what: str) -> None:
    """Require an entry for each name of the code, and none beside.

    Raises:
        StaleEntry: there is another one.
    """
    have, need = set(written), set(code)
    lacking, left = sorted(need - have), sorted(have - need)
    if lacking:
        raise StaleEntry(f"tools/reference/{file} lacks {what}: {', '.join(lacking)}")
    if left:
        raise StaleEntry(f"tools/reference/{file} has {what} that the code does not: {', '.join(left)}")
