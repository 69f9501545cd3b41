# SPDX-License-Identifier: Apache-2.0
"""Every rule in docs/reference/jtc-twin.md has a test, and every test of the twin is a rule there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_rules_and_tests_of_the_controllers_twin_are_the_same() -> None:
    page = (ROOT / "docs" / "reference" / "jtc-twin.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("|") and set(line) - set("|- ")]
    rules = [line for line in rows if line.strip() != "| rule | test |"]
    named = [re.fullmatch(r"\| .+ \| `(test_\w+)` \|", line) for line in rules]
    assert all(named), (
        f"rows without a test: {[line for line, found in zip(rules, named, strict=True) if not found]}"
    )
    tree = ast.parse((ROOT / "test" / "devices" / "jtc" / "test_jtc.py").read_text(encoding="utf-8"))
    tests = {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert {found.group(1) for found in named if found} == tests
    assert len(rules) == len(tests)
