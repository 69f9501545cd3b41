# SPDX-License-Identifier: Apache-2.0
"""Reports of a run: a CSV of losses, TensorBoard events, a picture of the loss curve."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wam.core.extras import missing
from wam.training.action_error import ActionError

CSV_NAME = "losses.csv"
PLOT_NAME = "losses.png"
EVENTS = "tensorboard"


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimiser step.

    Attributes:
        step: its number, from 1.
        epoch: passes over the data done, with fraction.
        seconds: time since the start of this process's training [s].
        learning_rate: used in it.
        grad_norm: of the whole gradient before clipping.
        losses: name -> value, mean over processes and accumulated passes.
        validation: the same on the validation episodes, with `ActionError.scalars`; or empty.
        error: of action rows on the validation episodes, or None.
    """

    step: int
    epoch: float
    seconds: float
    learning_rate: float
    grad_norm: float
    losses: Mapping[str, float]
    validation: Mapping[str, float]
    error: ActionError | None = None

    def row(self) -> dict[str, float]:
        """Return the columns of the CSV."""
        return {
            "step": self.step,
            "epoch": round(self.epoch, 4),
            "seconds": round(self.seconds, 3),
            "learning_rate": self.learning_rate,
            "grad_norm": self.grad_norm,
            **{f"loss_{name}": value for name, value in self.losses.items()},
            **{f"validation_{name}": value for name, value in self.validation.items()},
        }


class LossLog:
    """Writes `losses.csv` and TensorBoard events.

    Args:
        out: folder of the run.
        names: of the losses.
        after_step: a continued run keeps the rows up to this step and drops later ones.
        tensorboard: write events.

    Raises:
        MissingDependency: events are wanted and tensorboard is not installed.
    """

    def __init__(self, out: Path, *, names: tuple[str, ...], after_step: int, tensorboard: bool) -> None:
        self._events = _event_writer(out / EVENTS, purge_step=after_step + 1) if tensorboard else None
        self._path = out / CSV_NAME
        fixed = ("step", "epoch", "seconds", "learning_rate", "grad_norm")
        losses = [f"{kind}_{name}" for kind in ("loss", "validation") for name in names]
        columns = [*fixed, *losses, "validation_error_si", "validation_still_si"]
        kept = [row for row in read_losses(self._path) if row["step"] <= after_step] if after_step else []
        self._seconds = kept[-1]["seconds"] if kept else 0.0
        self._file = self._path.open("w", encoding="utf-8", newline="")
        self._csv = csv.DictWriter(self._file, columns, restval="")
        self._csv.writeheader()
        self._csv.writerows(kept)

    def __call__(self, record: StepRecord) -> None:
        """Write one step."""
        row = record.row()
        row["seconds"] = round(row["seconds"] + self._seconds, 3)
        self._csv.writerow(row)
        self._file.flush()
        if self._events is not None:
            for name, value in row.items():
                if name not in ("step", "seconds"):
                    self._events.add_scalar(name.replace("_", "/", 1), value, record.step)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._events is not None:
            self._events.close()


def _event_writer(folder: Path, *, purge_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise missing(
            "TensorBoard logs (off with run.tensorboard: false) need tensorboard", "tensorboard"
        ) from error
    return SummaryWriter(str(folder), purge_step=purge_step)


def read_losses(path: Path) -> list[dict[str, float]]:
    """Read `losses.csv`; empty cells are left out, a missing file has no rows."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{k: float(v) for k, v in row.items() if v not in ("", None)} for row in csv.DictReader(file)]


def smoothed(values: list[float], *, window: int) -> list[float]:
    """Return the mean of each value and up to `window - 1` values before it."""
    out, total = [], 0.0
    for i, value in enumerate(values):
        total += value - (values[i - window] if i >= window else 0.0)
        out.append(total / min(i + 1, window))
    return out


def plot_losses(path: Path, target: Path, *, title: str) -> Path:
    """Draw the loss curve.

    Args:
        path: `losses.csv`.
        target: PNG to write.
        title: above the picture.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise missing("the loss curve needs matplotlib", "matplotlib") from error
    rows = read_losses(path)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name in (n for n in (rows[0] if rows else {}) if n.startswith("loss_")):
        steps = [row["step"] for row in rows if name in row]
        values = [row[name] for row in rows if name in row]
        (line,) = axes.plot(steps, values, linewidth=0.5, alpha=0.35)
        mean = smoothed(values, window=max(1, len(values) // 50))
        axes.plot(steps, mean, color=line.get_color(), label=name.removeprefix("loss_"))
    for name in sorted({n for row in rows for n in row if n.startswith("validation_")}):
        points = [(row["step"], row[name]) for row in rows if name in row]
        axes.plot(*zip(*points, strict=True), "o--", markersize=3, label=name.replace("_", " "))
    axes.set(xlabel="optimiser step", ylabel="loss", yscale="log", title=title)
    axes.grid(visible=True, which="both", alpha=0.25)
    if rows:
        axes.legend()
    figure.savefig(target, dpi=110)
    return target
