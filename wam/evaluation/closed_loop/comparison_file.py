# SPDX-License-Identifier: Apache-2.0
"""The file of a comparison: tables of policies and controls that play the same seeds of a task.

`python -m wam.evaluation.closed_loop.comparison_file` prints docs/reference/comparison-file.schema.json.

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

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from wam.core.chunk.splice import Strategy
from wam.core.clock import seconds_to_ns
from wam.core.errors import ConfigError
from wam.evaluation.closed_loop.options import EvalOptions
from wam.evaluation.file_model import FileModel, read_model
from wam.evaluation.replay.engine import ReplaySettings
from wam.runtime.schedule import SCHEDULE
from wam.sim.quality import Quality
from wam.sim.tasks.registry import find_setting, find_task

Seconds = Annotated[float, Field(ge=0.0, le=3600.0, description="0 .. 3600 s")]


class ComparisonRow(FileModel):
    """One policy of a table.

    Attributes:
        policy: as for `wam eval --policy`; a relative path begins at the folder of the file.
        sampler: entries of the bundle's `sampler` section that are replaced.
        any_task: play it although it was trained for another task.
        strategy: how its chunks take over; null takes that of `wam eval`.
        planner_latency: of its plans [s]; null takes the table's.
        executor_latency: of its chunks [s]; null takes the table's.
        executor_period: time between the starts of two of its chunks [s]; null takes the table's.
    """

    policy: str = Field(min_length=1, description="a bundle's directory or a name")
    sampler: dict[str, Any] = Field(default={}, description="name: value")
    any_task: bool = Field(default=False, description="true or false")
    strategy: Strategy | None = Field(
        default=None, strict=False, description=", ".join(one.value for one in Strategy)
    )
    planner_latency: Seconds | None = None
    executor_latency: Seconds | None = None
    executor_period: Seconds | None = None

    def schedule(self, table: ReplaySettings) -> ReplaySettings:
        """Return the schedule of this row in a table of that schedule."""
        times = {
            "planner_latency_ns": self.planner_latency,
            "executor_latency_ns": self.executor_latency,
            "executor_period_ns": self.executor_period,
        }
        own: dict[str, Any] = {
            name: seconds_to_ns(value) for name, value in times.items() if value is not None
        }
        if self.strategy is not None:
            own["strategy"] = self.strategy
        return replace(table, **own)


class SeedRange(FileModel):
    """Seeds that every row plays."""

    first: int = Field(default=0, ge=0, description="0 or more")
    count: int = Field(ge=1, description="1 or more")


class TableEntry(FileModel):
    """One table of the file."""

    task: str = Field(description="a task; `wam sim tasks` lists them")
    setting: str = Field(default="seen", description="a setting of the task")
    seeds: SeedRange = Field(description="first (0 or more) and count (1 or more)")
    quality: Quality = Field(
        default=Quality.FULL, strict=False, description=" or ".join(one.value for one in Quality)
    )
    time_limit: Seconds | None = Field(default=None, description="0 .. 3600 s")
    against: str = Field(default="", description="the label of a row")
    rows: dict[str, ComparisonRow] = Field(min_length=1, description="label: {policy: ...}, one row at least")
    planner_latency: Seconds = SCHEDULE.planner_latency
    executor_latency: Seconds = SCHEDULE.executor_latency
    planner_period: Seconds = SCHEDULE.planner_period
    executor_period: Seconds = SCHEDULE.executor_period
    title: str = Field(default="", description="heading of the table; without one: task and setting")


class ComparisonFile(FileModel):
    """Content of the file."""

    tables: list[TableEntry] = Field(min_length=1, description="a list of tables")


@dataclass(frozen=True, slots=True)
class ComparisonTable:
    """What all rows of a table share.

    Attributes:
        title: heading.
        options: task, seeds and schedule; the policy is that of no row.
        rows: label -> policy.
        against: label of the row that every other one is compared with.
    """

    title: str
    options: EvalOptions
    rows: Mapping[str, ComparisonRow]
    against: str


def read_comparison(path: Path) -> tuple[ComparisonTable, ...]:
    """Read the file of a comparison.

    Raises:
        ConfigError: it is missing or illegal; the text names the place.
    """
    tables = read_model(ComparisonFile, path).tables
    return tuple(_table(table, f"{path}: tables[{at}]", path.parent) for at, table in enumerate(tables))


def _table(given: TableEntry, place: str, folder: Path) -> ComparisonTable:
    task = find_task(given.task)
    against = given.against or next(iter(given.rows))
    if against not in given.rows:
        raise ConfigError(f"{place}.against", value=against, known=given.rows)
    options = EvalOptions(
        task=task,
        setting=find_setting(task, given.setting),
        policy="",
        seeds=tuple(range(given.seeds.first, given.seeds.first + given.seeds.count)),
        schedule=ReplaySettings(
            planner_latency_ns=seconds_to_ns(given.planner_latency),
            executor_latency_ns=seconds_to_ns(given.executor_latency),
            planner_period_ns=seconds_to_ns(given.planner_period),
            executor_period_ns=seconds_to_ns(given.executor_period),
        ),
        time_limit=given.time_limit,
        videos=False,
        quality=given.quality,
    )
    rows = {
        label: row.model_copy(update={"policy": str(folder / row.policy)})
        if (folder / row.policy).is_dir()
        else row
        for label, row in given.rows.items()
    }
    title = given.title or f"`{task.name}`, {given.setting}"
    return ComparisonTable(title, options, rows, against)


def schema_text() -> str:
    """Return the JSON Schema of the file, as docs/reference has it."""
    comment = {"$comment": "SPDX-License-Identifier: Apache-2.0"}
    return json.dumps({**comment, **ComparisonFile.model_json_schema()}, indent=1) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
