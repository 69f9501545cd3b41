# SPDX-License-Identifier: Apache-2.0
"""Every code of a finding that the safety node can name, read from the source.

A code is the second argument of `Finding`. Where that is no constant, the functions below say where it comes from; a
new way to make one is an error here, so that no code stays unknown.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from wam.core.chunk.admission import Refusal
from wam.core.input_guard import InputReason
from wam.core.ladder import CAUSES

from .pages import ROOT, StaleEntry

PLACES = ("wam/core", "wam/robots", "wam/devices", "wam/runtime", "wam_safety_node")
"""Folders whose findings reach the ladder."""

PASSED_ON = {"_capped": 3, "_further": 0, "_hold": 0}
"""Functions that make a finding of the code that they are given -> which argument it is."""

COMPOSED = {
    "f'{word}_limit'": ("velocity_limit", "acceleration_limit", "jerk_limit"),
    "f'{self._code}_unknown'": ("effort_unknown", "external_torque_unknown"),
    "f'{self._code}_{code}'": (
        "effort_high",
        "effort_limit",
        "external_torque_high",
        "external_torque_limit",
    ),
}
"""Codes that are put together."""

KNOWN_OTHERWISE = {
    "code": "an argument of PASSED_ON, or of `finding`, whose codes are the keys of CAUSES",
    "CODE": "a constant of its module",
    "refusal": "refusal_code: a reason of the guard",
    "error.refusal.value": "wam.core.chunk.admission.Refusal",
    "Refusal.STALE.value": "wam.core.chunk.admission.Refusal",
    "message.code": "read from a message",
}
"""Expressions whose codes are found in another way."""

REFUSED_INPUTS = ("malformed_chunk", "malformed_joint_state", "future_chunk", "future_joint_state")
"""What `wam_safety_node.contracts.refusal_code` makes of two reasons of the guard."""


def all_codes() -> frozenset[str]:
    """Return every code of a finding, and of a message that an input's guard refuses.

    Raises:
        StaleEntry: a code is made in a way that is not known here.
    """
    found = {*CAUSES, *(one.value for one in Refusal), *(one.value for one in InputReason), *REFUSED_INPUTS}
    for folder in PLACES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            found.update(_of_file(path))
    return frozenset(found)


def _of_file(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).rpartition(".")[2]
        if name == "Finding" and len(node.args) > 1:
            yield from _codes(node.args[1], constants, f"{path.relative_to(ROOT)}:{node.lineno}")
        elif name in PASSED_ON and len(node.args) > PASSED_ON[name]:
            argument = node.args[PASSED_ON[name]]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value


def _codes(code: ast.expr, constants: Mapping[str, object], place: str) -> Iterator[str]:
    text = ast.unparse(code)
    if isinstance(code, ast.Constant):
        yield str(code.value)
    elif isinstance(code, ast.IfExp):
        yield from _codes(code.body, constants, place)
        yield from _codes(code.orelse, constants, place)
    elif text in constants:
        yield str(constants[text])
    elif text in COMPOSED:
        yield from COMPOSED[text]
    elif text not in KNOWN_OTHERWISE:
        raise StaleEntry(
            f"{place}: the code of a finding is {text}; say in tools/reference/codes.py which codes it can be"
        )
