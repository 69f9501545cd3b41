# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedule, length of a run, loss files and curve."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from wam.training.loop import learning_rate, whole_run
from wam.training.options import OptimSection
from wam.training.reports import LossLog, StepRecord, plot_losses, read_losses, smoothed


def test_the_learning_rate_rises_and_then_falls_to_one_percent() -> None:
    options = OptimSection(learning_rate=1.0)
    rates = [learning_rate(step, total=1000, options=options) for step in range(1000)]
    assert rates[:50] == pytest.approx([(i + 1) / 50 for i in range(50)])
    assert rates[50] == 1.0
    assert all(a > b for a, b in itertools.pairwise(rates[50:]))
    assert rates[525] == pytest.approx(0.505, abs=2e-3)
    assert rates[-1] == pytest.approx(0.01)


def test_the_shortest_runs_have_a_learning_rate() -> None:
    for total in (1, 2, 3):
        rates = [learning_rate(s, total=total, options=OptimSection(learning_rate=1.0)) for s in range(total)]
        assert all(0 < rate <= 1 for rate in rates)
        assert max(rates) == 1.0


def test_the_length_of_a_run_is_given_in_steps_or_in_epochs() -> None:
    assert whole_run(OptimSection(steps=7), batches_per_epoch=100) == 7
    assert whole_run(OptimSection(epochs=5, accumulate=4), batches_per_epoch=10) == 12
    assert whole_run(OptimSection(epochs=1, accumulate=40), batches_per_epoch=10) == 1


def record(step: int) -> StepRecord:
    return StepRecord(step, 0.1 * step, 1.5 * step, 1e-3, 2.0, {"total": 1 / step}, {})


def test_a_continued_log_keeps_what_came_before_and_drops_what_is_trained_again(tmp_path: Path) -> None:
    first = LossLog(tmp_path, names=("total",), after_step=0, tensorboard=False)
    for step in (1, 2, 3):
        first(record(step))
    first.close()
    second = LossLog(tmp_path, names=("total",), after_step=2, tensorboard=False)
    second(record(3))
    second.close()
    rows = read_losses(tmp_path / "losses.csv")
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[2]["seconds"] == pytest.approx(3.0 + 4.5)


def test_the_loss_curve_is_a_picture_also_of_an_empty_log(tmp_path: Path) -> None:
    log = LossLog(tmp_path, names=("total",), after_step=0, tensorboard=False)
    log.close()
    assert plot_losses(tmp_path / "losses.csv", tmp_path / "a.png", title="none").stat().st_size > 1000


def test_smoothing_is_the_mean_of_the_last_values() -> None:
    assert smoothed([1.0, 2.0, 3.0, 4.0], window=2) == [1.0, 1.5, 2.5, 3.5]
