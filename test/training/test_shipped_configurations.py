# SPDX-License-Identifier: Apache-2.0
"""The files of config/training: legal for their policy, and without a path that leaves the repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from wam.core.errors import ConfigError
from wam.policies.registry import registry
from wam.training.config_reading import read_config

FILES = sorted((Path(__file__).parents[2] / "config" / "training").glob("*.yaml"))


def texts(value: Any) -> Iterator[str]:
    """All text inside plain values."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from texts(item)
    if isinstance(value, str):
        yield value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_file_is_legal_once_the_data_set_is_given(path: Path) -> None:
    kind = next(kind for kind in registry().kinds.values() if path.stem.startswith(kind.name))
    config_type = kind.train.load().config_type
    assert read_config(config_type, path, ["data.root=d"]).data.root == Path("d")
    with pytest.raises(ConfigError, match=r"data\.root is missing.*--set data\.root=VALUE"):
        read_config(config_type, path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_file_names_no_path_outside_the_repository(path: Path) -> None:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert not [text for text in texts(values) if text.startswith(("/", "~", ".."))]
