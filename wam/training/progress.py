# SPDX-License-Identifier: Apache-2.0
"""A training run on the terminal: plan, progress bar with losses and remaining time, result."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from wam.core.signals import stop_on_signals
from wam.training.closed_loop import ClosedLoop, TrialOutcome
from wam.training.config_reading import read_config
from wam.training.recipe import Recipe
from wam.training.reports import StepRecord
from wam.training.runner import Listener, RunPlan, run_recipe

SMOOTHING = 0.95
"""Share of the past in the losses shown."""


class ShownRun(Listener):
    """Shows a run; only the first of several processes does.

    Args:
        console: where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[losses]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task: TaskID | None = None
        self._caching: TaskID | None = None
        self._shown: dict[str, float] = {}

    def __enter__(self) -> ShownRun:
        return self

    def __exit__(self, *args: object) -> None:
        self._progress.stop()

    def on_cache(self, done: int, episodes: int) -> None:
        """Show how many episodes are cached."""
        if os.environ.get("RANK", "0") != "0":
            return
        if self._caching is None:
            self._caching = self._progress.add_task("cached episodes", losses="")
            self._progress.start()
        self._progress.update(self._caching, completed=done, total=episodes)

    def on_plan(self, plan: RunPlan) -> None:
        """Print the plan and start the bar."""
        if not plan.world.is_first:
            return
        self._console.print(
            f"{plan.samples} samples of {plan.episodes} episodes, {plan.batches_per_epoch} batches per epoch "
            f"and process, {plan.parameters:,} parameters learn, {plan.world.size} x {plan.world.device}"
        )
        for warning in plan.warnings:
            self._console.print(f"[yellow]warning:[/yellow] {escape(warning)}", soft_wrap=True)
        if plan.first_step:
            self._console.print(f"continues after step {plan.first_step}")
        self._task = self._progress.add_task(
            plan.kind, total=plan.steps, completed=plan.first_step, losses=""
        )
        self._progress.start()

    def on_step(self, record: StepRecord) -> None:
        """Move the bar."""
        if self._task is None:
            return
        for name, value in record.losses.items():
            before = self._shown.get(name, value)
            self._shown[name] = SMOOTHING * before + (1 - SMOOTHING) * value
        if record.validation:
            values = "  ".join(f"{name} {value:.4f}" for name, value in record.validation.items())
            self._progress.console.print(f"step {record.step}, held-out episodes: {values}")
        losses = "  ".join(f"{name} {value:.4f}" for name, value in self._shown.items())
        self._progress.update(
            self._task, completed=record.step, losses=f"{losses}  lr {record.learning_rate:.1e}"
        )

    def on_checkpoint(self, folder: Path) -> None:
        """Name the checkpoint."""
        if self._task is not None:
            self._progress.console.print(f"[dim]checkpoint {folder}[/dim]")

    def on_outcome(self, step: int, outcome: TrialOutcome) -> None:
        """Print how the policy does."""
        self._progress.console.print(
            f"step {step}: success {outcome.successes} of {outcome.episodes}, score {outcome.score:.2f} of 3"
        )


def train_from_file(
    recipe: Recipe[Any, Any, Any],
    path: Path,
    *,
    overrides: Sequence[str],
    resume: bool,
    until: int | None,
    closed_loop: ClosedLoop | None = None,
) -> None:
    """Run a recipe from its configuration file, with a progress bar; Ctrl-C ends it after the current step.

    Args:
        recipe: of the policy.
        path: YAML.
        overrides: "section.key=value" each.
        resume: continue after the last checkpoint.
        until: stop after this step; None runs to the end.
        closed_loop: runs the episodes of `run.eval_every`.

    Raises:
        WamError: see `run_recipe`.
    """
    config = read_config(recipe.config_type, path, overrides)
    console = Console()
    stop = threading.Event()
    with stop_on_signals(stop), ShownRun(console) as shown:
        result = run_recipe(
            recipe,
            config,
            resume=resume,
            until=until,
            listener=shown,
            stop=stop,
            closed_loop=closed_loop,
        )
    if result.bundle is not None:
        state = "finished" if result.finished else "stopped, continue with --resume"
        console.print(f"[green]{state}[/green] at step {result.step}")
        console.print(
            f"bundle  {result.bundle}\nlosses  {result.losses}\ncurve   {result.plot}", soft_wrap=True
        )
    if result.best is not None and result.outcome is not None:
        step, outcome = result.outcome
        console.print(
            f"best    {result.best} (step {step}: success {outcome.successes} of {outcome.episodes})",
            soft_wrap=True,
        )
