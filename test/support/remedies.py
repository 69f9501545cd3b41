# SPDX-License-Identifier: Apache-2.0
"""The remedies that error texts name, read from the source, and the commands, options and files that they may name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from wam.cli.main import VERBS, load_verb

ROOT = Path(__file__).resolve().parents[2]
CODE = ("wam", *(path.name for path in sorted(ROOT.glob("wam_*")) if path.name != "wam_msgs"))

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
QUOTED = re.compile(r"`([^`]+)`")
OTHER_PROGRAMS = re.compile(r"`(?!wam\b)[^`]*`")


@dataclass(frozen=True, slots=True)
class Remedy:
    """A text that says what to change.

    Attributes:
        file: relative to the checkout.
        line: of the call.
        text: what stands in the source; values that are filled in are {expressions}.
        is_where: it is the `where` of an error and not another part of its text.
    """

    file: str
    line: int
    text: str
    is_where: bool

    @property
    def place(self) -> str:
        """For messages of tests."""
        return f"{self.file}:{self.line}: {self.text}"


@cache
def error_texts() -> tuple[Remedy, ...]:
    """Return every text of every error in the packages."""
    found = []
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            file = str(path.relative_to(ROOT))
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                found += [Remedy(file, *one) for one in _of_call(node)]
                found += [Remedy(file, *one) for one in _of_table(node)]
    return tuple(found)


def _of_call(node: ast.AST) -> Iterator[tuple[int, str, bool]]:
    if not isinstance(node, ast.Call):
        return
    name = ast.unparse(node.func).rpartition(".")[2]
    is_error = name in error_classes() or name == "error"
    for word in node.keywords:
        if word.arg in ("where", "remedy", "by_hand") or (is_error and word.arg in ("allowed", "value")):
            yield node.lineno, _text(word.value), word.arg not in ("allowed", "value")
    if is_error:
        yield from ((node.lineno, _text(argument), False) for argument in node.args)


def _of_table(node: ast.AST) -> Iterator[tuple[int, str, bool]]:
    """Yield the texts of a name that holds remedies, and of one that a function makes."""
    if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
        return
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if any(
        re.search(r"remed|repair|where$|again$|proposal|likely|known", ast.unparse(one), re.I)
        for one in targets
    ):
        for part in ast.walk(node.value):
            if isinstance(part, ast.JoinedStr) or (
                isinstance(part, ast.Constant) and isinstance(part.value, str)
            ):
                yield node.lineno, _text(part), True


@cache
def error_classes() -> frozenset[str]:
    """Return the names of `WamError` and of all that derive from it."""
    bases: dict[str, set[str]] = {}
    for folder in CODE:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    bases[node.name] = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    found = {"WamError"}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return frozenset(found)


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return "{" + ast.unparse(node.value) + "}"
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.IfExp):
        return f"{_text(node.body)} | {_text(node.orelse)}"
    return "{" + ast.unparse(node) + "}"


@cache
def commands() -> dict[str, Any]:
    """Return "replay run" and the like -> the (click) command; groups are in it too, as "replay"."""
    found: dict[str, Any] = {}

    def walk(path: str, command: Any) -> None:
        found[path] = command
        for name, below in getattr(command, "commands", {}).items():
            walk(f"{path} {name}", below)

    for verb in VERBS:
        walk(verb, load_verb(verb))
    return found


def options_of(command: Any) -> set[str]:
    """Return the options of a command."""
    return {
        "--help",
        *(one for parameter in command.params for one in (*parameter.opts, *parameter.secondary_opts)),
    }


def find_command(words: list[str]) -> tuple[str, list[str]]:
    """Return the command that words begin with, without `wam`, and the words behind it; "" for none.

    A verb whose subcommand `run` may be left out takes options too.
    """
    path = ""
    while words and f"{path} {words[0]}".strip() in commands():
        path, words = f"{path} {words[0]}".strip(), words[1:]
    return (f"{path} run" if f"{path} run" in commands() else path), words
