# SPDX-License-Identifier: Apache-2.0
"""Where the error of a replay is: by joint group and unit, by row of the chunk, by joint. Units are never mixed."""

from __future__ import annotations

import numpy as np

from wam.core.clock import NS_PER_S
from wam.evaluation.metrics.figures import Figures
from wam.evaluation.replay.data import ReplayData
from wam.report import plots
from wam.report.page import Chart, Charts, Section, Table, number

MOST_BARS = 12


def is_mixed(figures: Figures) -> bool:
    """Return whether the joints have different units: a mean over them would then have none."""
    return len(set(figures.units.values())) > 1


def errors_by_unit(figures: Figures) -> str:
    """Return the mean absolute error of every joint group in its own unit, on one line."""
    return ", ".join(f"{one.group} {_with_unit(one.l1, one.unit)}" for one in figures.unit_errors)


def error_section(figures: Figures) -> Section:
    """Return the table of errors by joint group and unit."""
    rows = tuple(
        (
            one.group,
            str(one.joints),
            "share of range" if one.unit == "1" else one.unit,
            number(one.l1),
            number(100.0 * one.l1_normalised),
            number(one.executed_l1),
            number(one.seam_jump_max),
        )
        for one in figures.unit_errors
    )
    columns = ("joint group", "joints", "unit", "L1", "L1 [% of range]", "L1 executed", "largest seam jump")
    return Section(
        "Error by joint group",
        (Table(columns, rows),),
        intro="Mean absolute errors (L1) over chunks, rows and the joints of one unit.",
    )


def step_section(data: ReplayData, figures: Figures) -> Section | None:
    """Return the error by row of the chunk and the joints with the largest, joints divided by their range."""
    l1 = 100.0 * data.collector.errors.per_step(normalised=True)[1]
    if not len(l1) or np.isnan(l1).all():
        return None
    x = np.arange(len(l1)) * data.contract.control_period_ns / NS_PER_S
    steps = Chart(
        "error by row of the chunk",
        plots.line_chart(
            [plots.Line("L1", x, l1, plots.PREDICTED)],
            x_label="time after the image [s]",
            y_label="L1 [% of range]",
            height=1.9,
        ),
    )
    numbers = figures.joints
    worst = sorted(numbers, key=lambda name: -np.nan_to_num(numbers[name].l1_normalised))[:MOST_BARS]
    bars = Chart(
        "joints with the largest error",
        plots.bar_chart(
            worst,
            [100.0 * numbers[name].l1_normalised for name in worst],
            x_label="L1 [% of the joint's range]",
        ),
    )
    return Section("Where the error is", (Charts((steps, bars)),))


def _with_unit(value: float, unit: str) -> str:
    return f"{number(100.0 * value)} %" if unit == "1" else f"{number(value)} {unit}"
