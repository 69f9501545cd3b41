# SPDX-License-Identifier: Apache-2.0
"""YAML files as pydantic models: what is illegal is told as everywhere in the suite, with its place in the file.

A field's `description` says what is allowed; it stands in error texts and in the JSON Schema alike.
"""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from wam.core.errors import ConfigError

M = TypeVar("M", bound="FileModel")


class FileModel(BaseModel):
    """A mapping of a file: unknown keys are refused, and no text is taken for a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def read_model(model: type[M], path: Path) -> M:
    """Read a file.

    Args:
        model: of its content.
        path: YAML.

    Raises:
        ConfigError: it is missing or illegal; the text names the place.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read ({str(error).splitlines()[0]})", where=str(path)) from error
    try:
        return model.model_validate(content)
    except ValidationError as error:
        found = error.errors(include_url=False)
        unknown = [one for one in found if one["type"] == "extra_forbidden"]
        raise _told(model, (unknown or found)[0], unknown, path) from None


def _told(model: type[BaseModel], first: Any, unknown: list[Any], path: Path) -> ConfigError:
    """Return the error about one fault; of unknown keys, about all of the same mapping."""
    steps, kind, value = first["loc"], first["type"], first["input"]
    place, allowed, inside = _place(model, steps)
    known: list[str] = []
    if kind == "extra_forbidden":
        place, _, inside = _place(model, steps[:-1])
        known = [] if inside is None else list(inside.model_fields)
        value = sorted(str(one["loc"][-1]) for one in unknown if one["loc"][:-1] == steps[:-1])
    elif kind == "missing":
        parent, parent_allowed, _ = _place(model, steps[:-1])
        if parent_allowed:
            place, allowed = parent, parent_allowed
        else:
            place, value = f"{place} is missing", None
    if kind in ("extra_forbidden", "model_type") and inside is not None:
        allowed = f"a mapping of {', '.join(inside.model_fields)}"
    what = f"{path}: {place}" if place else str(path) if value is not None else f"{path} is empty"
    return ConfigError(what, value=value, allowed=allowed, where=str(path), known=known)


def _place(
    model: type[BaseModel], steps: tuple[str | int, ...]
) -> tuple[str, str | None, type[BaseModel] | None]:
    """Return the dotted path of `steps`, what its field allows, and the model that stands there."""
    at: Any = model
    text, allowed = "", None
    for step in steps:
        if isinstance(at, type) and issubclass(at, BaseModel):
            field = at.model_fields.get(str(step))
            if field is None:
                break
            text, at, allowed = f"{text}.{step}".lstrip("."), field.annotation, field.description
        else:
            text += f"[{step!r}]"
            at, allowed = typing.get_args(at)[-1], None
    return text, allowed, at if isinstance(at, type) and issubclass(at, BaseModel) else None
