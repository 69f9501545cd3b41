# SPDX-License-Identifier: Apache-2.0
"""The file of a comparison: tables of policies and controls that play the same seeds of a task.

tables:
  - task: piper_move_large_object
    seeds: {first: 1000, count: 100}
    quality: fast
    against: blind replay
    rows:
      AHA-WAM: {policy: bundles/piper}
      AHA-WAM, 2 steps: {policy: bundles/piper, sampler: {steps: 2}}
      blind replay: {policy: blind}
      expert: {policy: expert}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from wam.core.clock import seconds_to_ns
from wam.core.errors import ConfigError
from wam.evaluation.closed_loop.options import EvalOptions
from wam.evaluation.replay.engine import ReplaySettings
from wam.runtime.schedule import SCHEDULE
from wam.sim.quality import Quality
from wam.sim.tasks.registry import find_setting, find_task


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One policy of a table.

    Attributes:
        policy: as for `wam eval --policy`; a relative path begins at the folder of the file.
        sampler: entries of the bundle's `sampler` section that are replaced.
        any_task: play it although it was trained for another task.
    """

    policy: str
    sampler: Mapping[str, object] = field(default_factory=dict)
    any_task: bool = False


@dataclass(frozen=True, slots=True)
class ComparisonTable:
    """What all rows of a table share.

    Attributes:
        options: task, seeds and schedule; the policy is that of no row.
        rows: label -> policy.
        against: label of the row that every other one is compared with.
    """

    options: EvalOptions
    rows: Mapping[str, ComparisonRow]
    against: str


_TIMES = ("planner_latency", "executor_latency", "planner_period", "executor_period")
_TABLE = ("task", "setting", "seeds", "quality", "time_limit", "against", "rows", *_TIMES)
_ROW = ("policy", "sampler", "any_task")


def read_comparison(path: Path) -> tuple[ComparisonTable, ...]:
    """Read the file of a comparison.

    Raises:
        ConfigError: it is missing or illegal; the text names the place.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read ({str(error).splitlines()[0]})", where=str(path)) from error
    tables = _mapping(content, f"{path}", ("tables",)).get("tables")
    if not isinstance(tables, list) or not tables:
        raise ConfigError(f"{path}: tables", value=tables, allowed="a list of tables", where=str(path))
    return tuple(_table(table, f"{path}: tables[{place}]", path.parent) for place, table in enumerate(tables))


def _table(content: Any, place: str, folder: Path) -> ComparisonTable:
    values = _mapping(content, place, _TABLE)
    seeds = _mapping(values.get("seeds", {}), f"{place}.seeds", ("first", "count"))
    task = find_task(str(values.get("task", "")))
    first, count = seeds.get("first", 0), seeds.get("count", 0)
    if not isinstance(first, int) or not isinstance(count, int) or first < 0 or count < 1:
        raise ConfigError(
            f"{place}.seeds", value=dict(seeds), allowed="first (0 or more) and count (1 or more)"
        )
    qualities = [quality.value for quality in Quality]
    quality = values.get("quality", Quality.FULL.value)
    if quality not in qualities:
        raise ConfigError(f"{place}.quality", value=quality, allowed=" or ".join(qualities))
    limit = values.get("time_limit")
    times = {name: values.get(name, getattr(SCHEDULE, name)) for name in _TIMES}
    for name, time in {**times, **({} if limit is None else {"time_limit": limit})}.items():
        if isinstance(time, bool) or not isinstance(time, int | float) or not 0.0 <= time <= 3600.0:
            raise ConfigError(f"{place}.{name}", value=time, allowed="0 .. 3600 s")
    options = EvalOptions(
        task=task,
        setting=find_setting(task, str(values.get("setting", "seen"))),
        policy="",
        seeds=tuple(range(first, first + count)),
        schedule=ReplaySettings(
            planner_latency_ns=seconds_to_ns(times["planner_latency"]),
            executor_latency_ns=seconds_to_ns(times["executor_latency"]),
            planner_period_ns=seconds_to_ns(times["planner_period"]),
            executor_period_ns=seconds_to_ns(times["executor_period"]),
        ),
        time_limit=limit,
        videos=False,
        quality=Quality(quality),
    )
    raw = values.get("rows")
    if not isinstance(raw, dict) or not raw:
        raise ConfigError(f"{place}.rows", value=raw, allowed="label: {policy: ...}, one row at least")
    rows = {str(label): _row(row, f"{place}.rows[{label!r}]", folder) for label, row in raw.items()}
    against = values.get("against", next(iter(rows)))
    if against not in rows:
        raise ConfigError(f"{place}.against", value=against, allowed=", ".join(rows))
    return ComparisonTable(options, rows, against)


def _row(content: Any, place: str, folder: Path) -> ComparisonRow:
    values = _mapping(content, place, _ROW)
    policy = values.get("policy")
    if not isinstance(policy, str) or not policy:
        raise ConfigError(f"{place}.policy", value=policy, allowed="a bundle's directory or a name")
    sampler, any_task = values.get("sampler", {}), values.get("any_task", False)
    if not isinstance(sampler, dict) or not isinstance(any_task, bool):
        raise ConfigError(place, value=values, allowed="sampler: {name: value}, any_task: true or false")
    beside = folder / policy
    return ComparisonRow(str(beside) if beside.is_dir() else policy, sampler, any_task)


def _mapping(content: Any, place: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(content, dict) or not set(content) <= set(known):
        unknown = sorted(map(str, set(content) - set(known))) if isinstance(content, dict) else content
        raise ConfigError(place, value=unknown, allowed=f"a mapping of {', '.join(known)}")
    return content
