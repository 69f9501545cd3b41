# SPDX-License-Identifier: Apache-2.0
"""ROS arguments on a command line (standard library only)."""

from __future__ import annotations

ParameterValue = str | int | float | bool


def yaml_scalar(value: ParameterValue) -> str:
    """Return `value` as a YAML scalar that keeps its type: a text "1" stays a text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)
