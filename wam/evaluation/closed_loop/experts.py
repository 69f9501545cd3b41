# SPDX-License-Identifier: Apache-2.0
"""Success rates of the experts, and the page of the documentation that shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wam.report.statistics import Interval, wilson
from wam.sim.rollout import EpisodeResult
from wam.sim.tasks.registry import TASKS


@dataclass(frozen=True, slots=True)
class Rate:
    """How one task went.

    Attributes:
        task: its name.
        setting: what it was set under.
        episodes: how many.
        successes: of them.
        rate: share of successes with its Wilson interval.
        mean_score: mean of the stages reached.
        mean_time: of the successful episodes, until the last stage [s]; NaN without any.
        max_force: largest normal force between the robot and anything else [N].
        failed_seeds: seeds without success.
    """

    task: str
    setting: str
    episodes: int
    successes: int
    rate: Interval
    mean_score: float
    mean_time: float
    max_force: float
    failed_seeds: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the rate for JSON; an unknown number is null."""
        return {
            "task": self.task,
            "setting": self.setting,
            "episodes": self.episodes,
            "successes": self.successes,
            "success_rate": self.rate.value,
            "success_low": self.rate.low,
            "success_high": self.rate.high,
            "mean_score": self.mean_score,
            "mean_time_s": None if math.isnan(self.mean_time) else self.mean_time,
            "max_contact_force_n": self.max_force,
            "failed_seeds": list(self.failed_seeds),
        }


def rates(results: Sequence[EpisodeResult]) -> list[Rate]:
    """Return the rate of every task and setting among `results`, in the order of their first episodes."""
    groups: dict[tuple[str, str], list[EpisodeResult]] = {}
    for result in results:
        groups.setdefault((result.task, result.setting.value), []).append(result)
    rows = []
    for (task, setting), episodes in groups.items():
        good = [one for one in episodes if one.success]
        rows.append(
            Rate(
                task=task,
                setting=setting,
                episodes=len(episodes),
                successes=len(good),
                rate=wilson(len(good), len(episodes)),
                mean_score=float(np.mean([one.progress for one in episodes])),
                mean_time=float(np.mean([one.time for one in good])) if good else math.nan,
                max_force=max(one.max_contact_force for one in episodes),
                failed_seeds=tuple(one.seed for one in episodes if not one.success),
            )
        )
    return rows


def as_markdown(rows: Sequence[Rate]) -> str:
    """Return the page docs/reference/experts.md."""
    lines = [
        "# Scripted experts",
        "",
        "Success of the scripted expert of every simulated task. The interval is Wilson's at 95 %; the time is that",
        "of the successful episodes, until the last stage. The force is the largest normal force between the robot and",
        "anything else, grasped objects included.",
        "",
        "`wam sim experts --table docs/reference/experts.md` writes this page.",
        "",
        "| task | instruction | setting | success | interval | mean score | mean time | largest contact force |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        time = "-" if math.isnan(row.mean_time) else f"{row.mean_time:.1f} s"
        lines.append(
            f"| `{row.task}` | {TASKS[row.task].instruction} | {row.setting} | {row.successes}/{row.episodes} | "
            f"{row.rate.low:.2f} .. {row.rate.high:.2f} | {row.mean_score:.2f} | {time} | {row.max_force:.0f} N |"
        )
    return "\n".join(lines) + "\n"
