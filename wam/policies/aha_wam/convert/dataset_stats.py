# SPDX-License-Identifier: Apache-2.0
"""Reads the `dataset_stats.json` of the released checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wam.core.errors import BundleError
from wam.models.normalisation import STATISTICS, FieldStats, PolicyStats


def read_dataset_stats(path: Path, *, state_width: int, action_width: int) -> PolicyStats:
    """Take the global statistics of state and action.

    The file has, for "state" and "action", one merged key ("default") with `global_*` vectors over the data set
    and `stepwise_*` tables, which no released policy uses.

    Args:
        path: of the file.
        state_width: proprioceptive values of the checkpoint.
        action_width: action values of the checkpoint.

    Raises:
        BundleError: another layout, another width, numbers that are not finite, or a zero standard deviation.
    """
    if not path.is_file():
        raise BundleError(f"the statistics {path} are missing")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{path} is not JSON: {error}") from error
    if not isinstance(raw, Mapping):
        raise BundleError(
            f"{path} holds a {type(raw).__name__}", allowed='an object with "state" and "action"'
        )
    return PolicyStats(
        state=_field(raw, "state", path=path, width=state_width),
        action=_field(raw, "action", path=path, width=action_width),
    )


def _field(raw: Mapping[str, Any], name: str, *, path: Path, width: int) -> FieldStats:
    groups = raw.get(name)
    if not isinstance(groups, Mapping) or len(groups) != 1:
        found = sorted(groups) if isinstance(groups, Mapping) else groups
        raise BundleError(
            f"{path}: {name} has to have exactly one merged key", value=found, allowed='{"default": {...}}'
        )
    (key, values), *_ = groups.items()
    if not isinstance(values, Mapping) or "global_mean" not in values:
        raise BundleError(
            f"{path}: {name}.{key} is of another version of the statistics",
            value=sorted(values) if isinstance(values, Mapping) else values,
            allowed=f"{[f'global_{s}' for s in STATISTICS]}",
        )
    plain = {s: values[f"global_{s}"] for s in STATISTICS if f"global_{s}" in values}
    return FieldStats.from_dict(plain, what=f"{path}: {name}.{key}", width=width)
