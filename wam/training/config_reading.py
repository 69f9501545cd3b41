# SPDX-License-Identifier: Apache-2.0
"""Reads training configurations strictly: YAML sections into frozen dataclasses, and back to plain values."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from wam.core.errors import ConfigError


def read_sections(path: Path | str, overrides: typing.Sequence[str], *, sections: str) -> dict[str, Any]:
    """Read the sections of a configuration file as plain values.

    Args:
        path: YAML.
        overrides: "section.key=value" each, the value in YAML.
        sections: that there may be, for error texts.

    Raises:
        ConfigError: the file is missing, no YAML or no mapping, or an override has another form.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"the configuration {path} is missing", where="--config") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} is no mapping of sections", allowed=sections)
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


def parse_section(cls: type[Any], raw: Any, *, path: str, where: str) -> Any:
    """Read a dataclass from plain values, its fields as their types say.

    Raises:
        ConfigError: a key is unknown, missing or of another type.
    """
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
            raise ConfigError(f"{where}: {place} is missing", where=where)
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
        return parse_section(cast("type[Any]", kind), raw, path=path, where=where)
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


Rule = tuple[bool, str, object, str]
"""Whether it holds, path of the key, its value, what is allowed."""


def common_rules(data: Any, optim: Any, run: Any) -> tuple[Rule, ...]:
    """Return the bounds that every training configuration has.

    Args:
        data: section with cameras, camera_names, validation_fraction, min_std and workers.
        optim: section with the fields of AdamW and of the schedule.
        run: the run.
    """
    names = data.camera_names or data.cameras
    return (
        (len(data.cameras) > 0, "data.cameras", list(data.cameras), "at least one picture feature"),
        (
            len(names) == len(data.cameras),
            "data.camera_names",
            list(names),
            f"one name for each of the {len(data.cameras)} data.cameras",
        ),
        (
            0 <= data.validation_fraction < 1,
            "data.validation_fraction",
            data.validation_fraction,
            "0 to below 1",
        ),
        (data.min_std >= 0, "data.min_std", data.min_std, "0 or more"),
        (data.workers >= 0, "data.workers", data.workers, "0 or more"),
        (optim.steps is None or optim.steps > 0, "optim.steps", optim.steps, "null or a positive number"),
        (optim.epochs > 0, "optim.epochs", optim.epochs, "a positive number"),
        (optim.batch_size > 0, "optim.batch_size", optim.batch_size, "a positive number"),
        (optim.accumulate > 0, "optim.accumulate", optim.accumulate, "a positive number"),
        (optim.learning_rate > 0, "optim.learning_rate", optim.learning_rate, "a positive number"),
        (0 <= optim.final_fraction <= 1, "optim.final_fraction", optim.final_fraction, "0 to 1"),
        (0 <= optim.warmup_fraction < 1, "optim.warmup_fraction", optim.warmup_fraction, "0 to below 1"),
        (optim.clip_norm > 0, "optim.clip_norm", optim.clip_norm, "a positive number"),
        (
            0 <= optim.beta1 < 1 and 0 <= optim.beta2 < 1,
            "optim.beta1, beta2",
            (optim.beta1, optim.beta2),
            "0 to below 1",
        ),
        (optim.weight_decay >= 0, "optim.weight_decay", optim.weight_decay, "0 or more"),
        (run.device in ("auto", "cpu", "cuda"), "run.device", run.device, "auto, cpu or cuda"),
        (run.checkpoint_every >= 0, "run.checkpoint_every", run.checkpoint_every, "0 or more"),
        (run.keep_checkpoints > 0, "run.keep_checkpoints", run.keep_checkpoints, "at least 1"),
        (run.validate_every >= 0, "run.validate_every", run.validate_every, "0 or more"),
    )


def require_rules(rules: typing.Iterable[Rule], *, where: str) -> None:
    """Refuse a configuration that breaks a rule.

    Raises:
        ConfigError: names the first one.
    """
    for good, path, value, allowed in rules:
        if not good:
            raise ConfigError(f"{where}: {path}", value=value, allowed=allowed, where=where)
