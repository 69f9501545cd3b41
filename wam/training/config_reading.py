# SPDX-License-Identifier: Apache-2.0
"""Reads training configurations strictly: YAML sections into frozen dataclasses, and back to plain values.

An unknown, missing or illegal key is an error that names its dotted path.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from wam.core.errors import ConfigError
from wam.training.options import TrainConfig, require_rules

ConfigT = TypeVar("ConfigT", bound=TrainConfig)


def read_config(cls: type[ConfigT], path: Path | str, overrides: Sequence[str] = ()) -> ConfigT:
    """Read a configuration file.

    Args:
        cls: the policy's configuration.
        path: YAML; relative paths inside are relative to the working directory.
        overrides: "section.key=value" each, the value in YAML; they win over the file.

    Raises:
        ConfigError: the file is missing or not YAML, or a key is unknown, missing or illegal.
    """
    sections = ", ".join(f.name for f in fields(cls))
    return parse_config(cls, _read_sections(Path(path), overrides, sections=sections), where=str(path))


def parse_config(cls: type[ConfigT], raw: Mapping[str, Any], *, where: str = "configuration") -> ConfigT:
    """Read a configuration from plain values.

    Args:
        cls: the policy's configuration.
        raw: section -> key -> value.
        where: the file, for error texts.

    Raises:
        ConfigError: a key is unknown, missing or illegal.
    """
    config: ConfigT = _parse_section(cls, raw, path="", where=where)
    require_rules(config.rules(), where=where)
    return config


def _read_sections(path: Path, overrides: Sequence[str], *, sections: str) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"the configuration {path} is missing", where="--config") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} is not a mapping of sections", allowed=sections)
    for text in overrides:
        _apply(raw, text)
    return raw


def to_plain(value: Any) -> Any:
    """Return plain values that `parse_config` reads back."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (tuple, list)):
        return [to_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: to_plain(v) for k, v in value.items()}
    return value


def _apply(raw: dict[str, Any], text: str) -> None:
    path, separator, value = text.partition("=")
    *sections, key = path.split(".")
    if not separator or not sections:
        raise ConfigError("an override", value=text, allowed="section.key=value", where="--set")
    target = raw
    for name in sections:
        target = target.setdefault(name, {})
        if not isinstance(target, dict):
            raise ConfigError("an override", value=text, allowed="a key inside a section", where="--set")
    target[key] = yaml.safe_load(value)


def _parse_section(cls: type[Any], raw: Any, *, path: str, where: str) -> Any:
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where}: {path or 'the file'}", value=raw, allowed="a mapping")
    known = {f.name: f for f in fields(cls)}
    unknown = sorted(set(raw) - set(known))
    if unknown:
        raise ConfigError(
            f"{where}: unknown key {_join(path, str(unknown[0]))}", allowed=f"{sorted(known)}", where=where
        )
    types_of = typing.get_type_hints(cls)
    values = {}
    for name, spec in known.items():
        place = _join(path, name)
        if name in raw:
            values[name] = _value(types_of[name], raw[name], path=place, where=where)
        elif spec.default is MISSING and spec.default_factory is MISSING:
            raise ConfigError(f"{where}: {place} is missing", where=f"the file, or with --set {place}=VALUE")
    return cls(**values)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _value(kind: Any, raw: Any, *, path: str, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if raw is None:
            return None
        return _value(next(a for a in arguments if a is not type(None)), raw, path=path, where=where)
    if is_dataclass(kind):
        return _parse_section(cast("type[Any]", kind), raw, path=path, where=where)
    if origin is tuple and isinstance(raw, list):
        return tuple(
            _value(arguments[0], item, path=f"{path}[{i}]", where=where) for i, item in enumerate(raw)
        )
    if origin is dict and isinstance(raw, dict):
        return dict(raw)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        allowed = [member.value for member in kind]
        if raw in allowed:
            return kind(raw)
        raise ConfigError(f"{where}: {path}", value=raw, allowed=f"one of {allowed}", where=where)
    if kind is Path and isinstance(raw, str):
        return Path(raw).expanduser()
    # YAML 1.1 reads "1e-4" as text.
    if kind is float and isinstance(raw, (int, float, str)) and not isinstance(raw, bool):
        try:
            return float(raw)
        except ValueError:
            pass
    if kind in (int, str, bool) and type(raw) is kind:
        return raw
    name = "list" if origin is tuple else getattr(kind, "__name__", str(kind))
    raise ConfigError(f"{where}: {path}", value=raw, allowed=f"a value of type {name}", where=where)
