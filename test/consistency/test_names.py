# SPDX-License-Identifier: Apache-2.0
"""One word, one thing: no class name twice, and every error in the tree drawn in wam/core/errors.py."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("wam", "wam_*_node", "wam_bringup")

TREE_LINE = re.compile(r"^    (?P<bars>[| ]*)\+-- (?P<name>\w+) ")


def classes() -> dict[str, list[tuple[Path, ast.ClassDef]]]:
    """Return class name -> where it is defined, over the whole product."""
    found: dict[str, list[tuple[Path, ast.ClassDef]]] = defaultdict(list)
    for pattern in PRODUCT:
        for top in ROOT.glob(pattern):
            for path in sorted(top.rglob("*.py")):
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                    if isinstance(node, ast.ClassDef):
                        found[node.name].append((path.relative_to(ROOT), node))
    return found


def bases(node: ast.ClassDef) -> list[str]:
    return [ast.unparse(base).rpartition(".")[2] for base in node.bases]


def drawn_tree() -> dict[str, str]:
    """Return error -> its parent, as drawn in the docstring of wam/core/errors.py."""
    source = (ROOT / "wam" / "core" / "errors.py").read_text(encoding="utf-8")
    drawing = ast.get_docstring(ast.parse(source), clean=False) or ""
    parents: dict[str, str] = {}
    path = ["WamError"]
    for line in drawing.splitlines():
        match = TREE_LINE.match(line)
        if match:
            depth = len(match["bars"]) // 4 + 1
            path[depth:] = [match["name"]]
            parents[match["name"]] = path[depth - 1]
    return parents


def test_no_class_name_stands_twice() -> None:
    twice = {name: [str(path) for path, _ in places] for name, places in classes().items() if len(places) > 1}
    assert not twice, f"rename one of each: {twice}"


def test_every_exception_class_is_in_the_drawn_tree() -> None:
    """A private class (`_Name`) never leaves its module and is not drawn."""
    found = {name: bases(places[0][1]) for name, places in classes().items()}
    errors = {"WamError"}
    while more := {name for name, parents in found.items() if errors & set(parents)} - errors:
        errors |= more
    foreign = [
        name
        for name, parents in found.items()
        if not name.startswith("_") and any(parent.endswith(("Exception", "Error")) for parent in parents)
    ]
    errors |= set(foreign)
    assert {name: found[name][0] for name in errors - {"WamError"}} == drawn_tree()
