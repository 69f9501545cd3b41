# SPDX-License-Identifier: Apache-2.0
"""Success in closed loop while a policy is trained: scores over steps, the best bundle, and when to give up.

Who runs the episodes is not known here; `wam train` hands in `wam.evaluation.closed_loop.during_training`.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wam.core.contract import TrainedOn
from wam.core.errors import ConfigError
from wam.training.options import RunSection

CSV_NAME = "success.csv"
BEST = "best"
"""Folder of the bundle with the best score so far."""

COLUMNS = ("step", "episodes", "successes", "score")


@dataclass(frozen=True, slots=True)
class Trial:
    """What is asked of a bundle.

    Attributes:
        bundle: its folder.
        task: name of the simulated task.
        seeds: of the episodes.
        images: quality of the images that it was trained on; "" for the full one.
    """

    bundle: Path
    task: str
    seeds: tuple[int, ...]
    images: str


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """How a bundle did.

    Attributes:
        episodes: that were run.
        successes: how many of them.
        score: mean number of stages reached.
    """

    episodes: int
    successes: int
    score: float

    @property
    def rank(self) -> tuple[int, float]:
        """Order of two outcomes on the same seeds: success first, then the score."""
        return (self.successes, self.score)


ClosedLoop = Callable[[Trial], TrialOutcome]


def seeds_of(run: RunSection, trained: TrainedOn, *, task: str) -> tuple[int, ...]:
    """Return the seeds of the episodes that a run is scored on.

    Args:
        run: of the configuration.
        trained: the data that the run learns from.
        task: that it learns; "" is an error.

    Raises:
        ConfigError: no task is known, or a seed is one of the training data.
    """
    if not task:
        raise ConfigError(
            "run.eval_every needs a simulated task, and the data set states none",
            allowed="the name of one of `wam sim tasks`",
            where="run.task",
        )
    seeds = tuple(range(run.eval_seed, run.eval_seed + run.eval_episodes))
    if trained.seeds and seeds[0] <= trained.seeds[-1] and trained.seeds[0] <= seeds[-1]:
        raise ConfigError(
            "episodes of training would be scored on seeds of the training data",
            value=f"{seeds[0]} to {seeds[-1]}",
            allowed=f"seeds outside {trained.seeds[0]} to {trained.seeds[-1]}",
            where="run.eval_seed",
        )
    return seeds


class SuccessLog:
    """`success.csv` and the best bundle of a run; a continued run goes on with both.

    Args:
        out: folder of the run.
        after_step: rows of later steps are dropped.
        patience: evaluations without a better one after which the run ends; 0 for none.
    """

    def __init__(self, out: Path, *, after_step: int, patience: int) -> None:
        self._path, self._best_dir, self._patience = out / CSV_NAME, out / BEST, patience
        rows = [(step, one) for step, one in read_outcomes(self._path) if step <= after_step]
        self._since_best = 0
        self.best: tuple[int, TrialOutcome] | None = None
        for step, outcome in rows:
            self._rank(step, outcome)
        self._write(rows)
        self._rows = rows

    def add(self, step: int, outcome: TrialOutcome, *, bundle: Path) -> bool:
        """Write one evaluation, keep its bundle where it is the best, and return whether to go on."""
        self._rows.append((step, outcome))
        self._write(self._rows)
        if self._rank(step, outcome):
            shutil.rmtree(self._best_dir, ignore_errors=True)
            shutil.copytree(bundle, self._best_dir)
        return not self.gave_up

    @property
    def gave_up(self) -> bool:
        """Whether the last `patience` evaluations brought nothing better."""
        return 0 < self._patience <= self._since_best

    def _rank(self, step: int, outcome: TrialOutcome) -> bool:
        """Return whether this outcome is the best so far; of two that are equal, the later one is."""
        if self.best is not None and outcome.rank < self.best[1].rank:
            self._since_best += 1
            return False
        better = self.best is None or outcome.rank > self.best[1].rank
        self._since_best = 0 if better else self._since_best + 1
        self.best = (step, outcome)
        return True

    def _write(self, rows: list[tuple[int, TrialOutcome]]) -> None:
        with self._path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows((step, one.episodes, one.successes, one.score) for step, one in rows)


def read_outcomes(path: Path) -> list[tuple[int, TrialOutcome]]:
    """Read `success.csv`: step and outcome of each evaluation; a missing file has none."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            (int(row["step"]), TrialOutcome(int(row["episodes"]), int(row["successes"]), float(row["score"])))
            for row in csv.DictReader(file)
        ]
