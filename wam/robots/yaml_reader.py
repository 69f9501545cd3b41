# SPDX-License-Identifier: Apache-2.0
"""Strict reading of YAML: every refusal names file, line, dotted path, value, what is allowed and the remedy."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import yaml

from wam.core.errors import ConfigError
from wam.core.suggest import did_you_mean
from wam.robots.units import UNITS, Dimension

E = TypeVar("E", bound=enum.Enum)

MAX_FILE_BYTES = 1_000_000

UNFILLED = "TODO"
"""Stands in a draft where a person has to enter a value."""


class Value:
    """One value of a YAML file, with its place.

    Args:
        file: the file, for error texts.
        path: dotted path from the root, e.g. "groups[0].joints[2].upper".
        node: the YAML node.
    """

    def __init__(self, file: Path, path: str, node: yaml.Node) -> None:
        self.file = file
        self.path = path
        self._node = node

    @property
    def line(self) -> int:
        """Line in the file, from 1."""
        return int(self._node.start_mark.line) + 1

    def error(
        self, problem: str, *, value: object = None, allowed: str | None = None, known: Sequence[str] = ()
    ) -> ConfigError:
        """Return an error about this value; the caller raises it. Of `known`, one like `value` is suggested."""
        place = f"{self.file.name}:{self.line}: {self.path or 'top level'}"
        return ConfigError(
            f"{place} {problem}",
            value=value,
            allowed=allowed,
            where=f"{self.file}, line {self.line}",
            known=known,
        )

    def fields(self, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Value]:
        """Return the entries of a mapping.

        Raises:
            ConfigError: it is no mapping, or a key is unknown, repeated or missing.
        """
        known = (*required, *optional)
        found = self._entries(f"a mapping with {', '.join(known)}", known)
        missing = [key for key in required if key not in found]
        if missing:
            raise self.error(f"lacks {', '.join(missing)}", allowed=f"required here: {', '.join(required)}")
        return found

    def table(self) -> dict[str, Value]:
        """Return the entries of a mapping whose keys are free.

        Raises:
            ConfigError: it is no mapping or a key is repeated.
        """
        return self._entries("a mapping")

    def items(self) -> list[Value]:
        """Return the entries of a list that is not empty.

        Raises:
            ConfigError: it is no list, or an empty one.
        """
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.error("is not a list", value=self._shown(), allowed="a list")
        if not self._node.value:
            raise self.error("is empty", allowed="at least one entry")
        return [Value(self.file, f"{self.path}[{i}]", node) for i, node in enumerate(self._node.value)]

    def text(self) -> str:
        """Return a text that is not empty.

        Raises:
            ConfigError: it is none.
        """
        node = self._node
        self.require_stated()
        if (
            not isinstance(node, yaml.ScalarNode)
            or node.tag != "tag:yaml.org,2002:str"
            or not node.value.strip()
        ):
            raise self.error(
                "is not a text", value=self._shown(), allowed="a text (quote numbers and yes/no)"
            )
        return str(node.value)

    def scalar(self) -> str:
        """Return a text, number or flag as it is written.

        Raises:
            ConfigError: it is a list or a mapping.
        """
        if not isinstance(self._node, yaml.ScalarNode):
            raise self.error("is not a single value", value=self._shown(), allowed="a text or a number")
        return str(self._node.value)

    def flag(self) -> bool:
        """Return whether `true` is written here.

        Raises:
            ConfigError: it is neither `true` nor `false`.
        """
        text = self.scalar()
        if text not in ("true", "false"):
            raise self.error("is neither true nor false", value=self._shown(), allowed="true or false")
        return text == "true"

    def replaced(self, mark: str, text: str) -> Value:
        """Return this text with `mark` replaced by `text`, in the same place of the file."""
        node = yaml.ScalarNode(
            "tag:yaml.org,2002:str", self.text().replace(mark, text), self._node.start_mark
        )
        return Value(self.file, self.path, node)

    def choice(self, kind: type[E]) -> E:
        """Return the member of `kind` whose value is written here.

        Raises:
            ConfigError: there is none.
        """
        text = self.text()
        for member in kind:
            if member.value == text:
                return member
        raise self.error("is illegal", value=text, known=[str(member.value) for member in kind])

    def integer(self, *, lower: int, upper: int) -> int:
        """Return a whole number in `lower`..`upper`.

        Raises:
            ConfigError: it is none, or out of range.
        """
        number = self._number(f"a whole number, {lower} .. {upper}")
        if number != int(number) or not lower <= number <= upper:
            raise self.error(
                "is out of range", value=self._shown(), allowed=f"a whole number, {lower} .. {upper}"
            )
        return int(number)

    def quantity(self, dimension: Dimension, *, lower: float = -math.inf, upper: float = math.inf) -> float:
        """Return a number in SI units: plain, or as `{value: 30, unit: deg}`.

        Args:
            dimension: decides which units are allowed.
            lower: smallest legal value, in SI.
            upper: largest legal value, in SI.

        Raises:
            ConfigError: it is no finite number, has a unit of another dimension, or is out of range.
        """
        si = dimension.value
        if self.is_mapping:
            fields = self.fields(("value", "unit"))
            unit = fields["unit"].text()
            factor = UNITS[dimension].get(unit)
            if factor is None:
                raise fields["unit"].error("does not fit", value=unit, known=list(UNITS[dimension]))
            number = fields["value"]._number(f"a number in {unit}") * factor
        else:
            number = self._number(f"a number in {si}, or {{value: ..., unit: ...}}")
        if not lower <= number <= upper:
            raise self.error(
                "is out of range", value=f"{number:g} {si}", allowed=f"{lower:g} .. {upper:g} {si}"
            )
        return number

    def quantity_of(
        self, dimensions: Sequence[Dimension], *, lower: float = -math.inf, upper: float = math.inf
    ) -> tuple[float, Dimension]:
        """Return a number in SI units, and which of `dimensions` its unit has; a plain number has the first.

        Raises:
            ConfigError: as `quantity`; a unit is of none of `dimensions`.
        """
        found = dimensions[0]
        if self.is_mapping:
            at = self.fields(("value", "unit"))["unit"]
            unit = at.text()
            fitting = [one for one in dimensions if unit in UNITS[one]]
            if not fitting:
                known = ", ".join(name for one in dimensions for name in UNITS[one])
                raise at.error("does not fit", value=unit, allowed=known)
            found = fitting[0]
        return self.quantity(found, lower=lower, upper=upper), found

    def duration_ns(self, *, lower: float = 1e-6, upper: float = 3600.0) -> int:
        """Return a duration [ns], written in s or with a unit; limits in s.

        Raises:
            ConfigError: it is none, or out of range.
        """
        return round(self.quantity(Dimension.TIME, lower=lower, upper=upper) * 1e9)

    def _entries(self, allowed: str, known: Sequence[str] | None = None) -> dict[str, Value]:
        if not isinstance(self._node, yaml.MappingNode):
            self.require_stated()
            raise self.error("is not a mapping", value=self._shown(), allowed=allowed)
        found: dict[str, Value] = {}
        for key_node, value_node in self._node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            prefix = f"{self.path}." if self.path else ""
            at_key = Value(self.file, prefix + key, key_node)
            if known is not None and key not in known:
                raise at_key.error(f"is an unknown key{did_you_mean(key, known)}", allowed=", ".join(known))
            if key in found:
                raise at_key.error("is written twice", allowed="one entry per key")
            found[key] = Value(self.file, prefix + key, value_node)
        return found

    @property
    def is_todo(self) -> bool:
        """Whether the mark of a draft stands where a value should."""
        return (
            isinstance(self._node, yaml.ScalarNode)
            and self._node.style is None
            and self._node.value == UNFILLED
        )

    @property
    def is_mapping(self) -> bool:
        """Whether keys stand here."""
        return isinstance(self._node, yaml.MappingNode)

    def require_stated(self) -> None:
        """Refuse what a draft leaves open.

        Raises:
            ConfigError: it is still here.
        """
        if self.is_todo:
            raise self.error(f"is still {UNFILLED}", allowed="a value; docs/how-to/add-a-robot.md says which")

    def _number(self, allowed: str) -> float:
        self.require_stated()
        node = self._node
        # Parsed from the text: YAML 1.1 would read 1:30 as 90, 010 as 8 and 1e-3 as a text.
        if isinstance(node, yaml.ScalarNode) and node.style is None:
            try:
                number = float(node.value)
            except ValueError:
                pass
            else:
                if math.isfinite(number):
                    return number
        raise self.error("is not a finite number", value=self._shown(), allowed=allowed)

    def _shown(self) -> str:
        if isinstance(self._node, yaml.ScalarNode):
            return str(self._node.value)
        return "a list" if isinstance(self._node, yaml.SequenceNode) else "a mapping"


def place_of(file: Path, *keys: str | int) -> str:
    """Return "FILE:LINE" of the value that `keys` lead to, or the file's name where there is none."""
    try:
        value = read_yaml(file)
        for key in keys:
            value = value.table()[key] if isinstance(key, str) else value.items()[key]
    except (ConfigError, KeyError, IndexError):
        return file.name
    return f"{file.name}:{value.line}"


def read_yaml(file: Path) -> Value:
    """Read one YAML document.

    Raises:
        ConfigError: the file is missing, too large, not UTF-8 or no well-formed YAML; the text names the line.
    """
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(
                f"{file.name} is too large",
                value=f"{file.stat().st_size} bytes",
                allowed=f"at most {MAX_FILE_BYTES} bytes",
                where=str(file),
            )
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file.name} cannot be read: {error.strerror}", where=str(file)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{file.name} is not UTF-8 text: {error.reason} at byte {error.start}", where=str(file)
        ) from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(
            f"{file.name}:{line}: malformed YAML: {error.problem or error.context}",
            where=f"{file}, line {line}",
        ) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{file.name}: malformed YAML: {error}", where=str(file)) from None
    if node is None:
        raise ConfigError(f"{file.name} is empty", allowed="a robot description", where=str(file))
    return Value(file, "", node)
