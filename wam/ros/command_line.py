# SPDX-License-Identifier: Apache-2.0
"""Parameters of the nodes of a process, as a file (standard library only)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

ParameterValue = str | int | float | bool | Sequence[str]


def write_parameters(path: Path, parameters: Mapping[str, Mapping[str, ParameterValue]]) -> Path:
    """Write a parameter file that holds for its nodes in whatever namespace they run, and return its path.

    `-p node:name:=value` would be shorter, but rcl applies such a rule to nodes of the root namespace only.

    Args:
        path: the file; JSON, which is YAML, keeps every type as it is.
        parameters: node name -> parameter name -> value.
    """
    nodes = {f"/**/{node}": {"ros__parameters": dict(values)} for node, values in parameters.items()}
    path.write_text(json.dumps(nodes, indent=1) + "\n", encoding="utf-8")
    return path
