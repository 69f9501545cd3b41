# SPDX-License-Identifier: Apache-2.0
"""Checks that several parts of a robot file share: names, topics, distinctness, ages against periods."""

from __future__ import annotations

import re
from collections.abc import Iterable

from wam.robots.yaml_reader import Value

TOPIC_FORM = r"[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*"
NAME_FORM = r"[A-Za-z_][A-Za-z0-9_.-]*"
_TOPIC, _NAME = re.compile(TOPIC_FORM), re.compile(NAME_FORM)


def is_topic(text: str) -> bool:
    """Return whether a text is a relative topic name."""
    return _TOPIC.fullmatch(text) is not None


def topic_of(value: Value) -> str:
    """Return a relative topic name.

    Raises:
        ConfigError: it is none.
    """
    text = value.text()
    if not is_topic(text):
        raise value.error(
            "is no relative topic name", value=text, allowed="e.g. left/joint_states, without leading /"
        )
    return text


def name_of(value: Value) -> str:
    """Return a name.

    Raises:
        ConfigError: it is none.
    """
    text = value.text()
    if not _NAME.fullmatch(text):
        raise value.error(
            "is no name", value=text, allowed="letters, digits, _, . and -, not starting with a digit"
        )
    return text


def require_distinct(what: str, named: Iterable[tuple[str, Value]]) -> None:
    """Check that no name stands twice.

    Args:
        what: for texts, e.g. "camera name".
        named: names and their places.

    Raises:
        ConfigError: one does; at its second place.
    """
    seen: dict[str, Value] = {}
    for name, value in named:
        if name in seen:
            raise value.error(
                f"repeats the {what}",
                value=name,
                allowed=f"distinct ones (first used in line {seen[name].line})",
            )
        seen[name] = value


def require_periods(max_age_ns: int, rate: float, value: Value) -> None:
    """Check that a sample may be as old as a period of its stream.

    Raises:
        ConfigError: it may not.
    """
    if max_age_ns * rate < 1e9:
        raise value.error(
            "is shorter than a period: every sample would be stale",
            value=f"{max_age_ns * 1e-9:g} s",
            allowed=f"at least {1 / rate:g} s at {rate:g} Hz",
        )
