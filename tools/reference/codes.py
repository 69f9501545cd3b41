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
from wam.core.ladder import CAUSES, NOT_ARMED

from .pages import ROOT, StaleEntry

PLACES = ("wam/core", "wam/robots", "wam/devices", "wam/runtime", "wam_safety_node")
"""Folders whose findings reach the ladder."""

PASSED_ON = {
    ("wam/robots/measured_check.py", "_further"): 0,
    ("wam/robots/tool_speed.py", "_capped"): 3,
    ("wam_safety_node/watch.py", "_hold"): 0,
}
"""File and function that makes a finding of the code that it is given -> which argument it is."""

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
    ("wam/core/ladder.py", "code"): "`finding`, whose codes are the keys of CAUSES",
    ("wam/robots/measured_check.py", "code"): "an argument of PASSED_ON",
    ("wam/robots/tool_speed.py", "code"): "an argument of PASSED_ON",
    ("wam_safety_node/watch.py", "code"): "an argument of PASSED_ON",
    ("wam/runtime/safety/mailbox.py", "refusal"): "refusal_code: a reason of the guard",
    ("wam/runtime/safety/intake.py", "error.refusal.value"): "wam.core.chunk.admission.Refusal",
    ("wam/runtime/safety/intake.py", "Refusal.STALE.value"): "wam.core.chunk.admission.Refusal",
}
"""File and expression whose codes are found in another way."""

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
    file = str(path.relative_to(ROOT))
    constants: dict[str, object] = {"NOT_ARMED": NOT_ARMED}
    for one in tree.body:
        if isinstance(one, ast.Assign) and isinstance(one.value, ast.Constant):
            constants.update((name.id, one.value.value) for name in one.targets if isinstance(name, ast.Name))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).rpartition(".")[2]
        place = 1 if name == "Finding" else PASSED_ON.get((file, name))
        if place is not None:
            by_name = [one.value for one in node.keywords if one.arg == "code"]
            for code in by_name or node.args[place : place + 1] or [node]:
                yield from _codes(code, constants, file, node.lineno)


def _codes(code: ast.expr, constants: Mapping[str, object], file: str, line: int) -> Iterator[str]:
    text = ast.unparse(code)
    if isinstance(code, ast.Constant):
        yield str(code.value)
    elif isinstance(code, ast.IfExp):
        yield from _codes(code.body, constants, file, line)
        yield from _codes(code.orelse, constants, file, line)
    elif text in constants:
        yield str(constants[text])
    elif text in COMPOSED:
        yield from COMPOSED[text]
    elif (file, text) not in KNOWN_OTHERWISE:
        raise StaleEntry(
            f"{file}:{line}: the code of a finding is {text}; say in tools/reference/codes.py which codes it can be"
        )
