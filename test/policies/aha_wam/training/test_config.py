# SPDX-License-Identifier: Apache-2.0
"""Configuration of runs: strict, with dotted paths in every refusal; learning-rate schedule; loss files."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from wam.core.errors import ConfigError
from wam.policies.aha_wam.training.ablation import Ablation
from wam.policies.aha_wam.training.config import (
    OptimSection,
    Precision,
    TrainConfig,
    parse_config,
    read_config,
)
from wam.policies.aha_wam.training.distill import AnchorBias
from wam.policies.aha_wam.training.start import preset_config
from wam.training.config_reading import to_plain
from wam.training.loop import learning_rate, whole_run
from wam.training.reports import LossLog, StepRecord, plot_losses, read_losses, smoothed

CONFIGS = Path(__file__).parents[4] / "config" / "training"
LEAST: dict[str, Any] = {"data": {"root": "d", "cameras": ["c"]}, "run": {"out": "o"}}


def test_the_defaults_are_those_of_the_released_code() -> None:
    config = parse_config(LEAST)
    assert config.optim == OptimSection(
        epochs=5,
        batch_size=6,
        learning_rate=5e-5,
        final_fraction=0.01,
        warmup_fraction=0.05,
        weight_decay=1e-2,
        beta1=0.9,
        beta2=0.95,
        clip_norm=1.0,
        precision=Precision.BFLOAT16,
        video_weight=1.0,
    )
    assert (config.model.ablation, config.distill.anchors) == (Ablation.FULL, AnchorBias.UNIFORM)
    assert (config.data.horizon_rows, config.data.max_offset, config.data.history_frames) == (64, 0, 6)
    assert config.run.seed == 42


def test_a_configuration_survives_being_written_and_read() -> None:
    config = parse_config({**LEAST, "model": {"ablation": "ovcr", "overrides": {"queries": 3}}})
    assert parse_config(yaml.safe_load(yaml.safe_dump(to_plain(config)))) == config


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("aha_wam*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_configuration_is_valid(path: Path) -> None:
    config = read_config(path)
    assert isinstance(config, TrainConfig)
    if config.model.bundle is None:
        preset_config(config.model.preset, config.model.overrides)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"optim": {"learning_rat": 1}}, r"unknown key optim\.learning_rat"),
        ({"optmi": {}}, "unknown key optmi"),
        ({"data": {"root": "d"}}, r"data\.cameras is missing"),
        ({"data": {"root": "d", "cameras": "c"}}, r"data\.cameras: got 'c'; allowed: a value of type list"),
        ({"data": {"root": "d", "cameras": [3]}}, r"data\.cameras\[0\]: got 3"),
        ({"data": {"root": "d", "cameras": []}}, r"data\.cameras: got \[\]"),
        ({"data": {"root": "d", "cameras": ["a"], "camera_names": ["x", "y"]}}, r"data\.camera_names"),
        ({"optim": {"batch_size": 0}}, r"optim\.batch_size: got 0; allowed: a positive number"),
        ({"optim": {"batch_size": 2.5}}, r"optim\.batch_size: got 2\.5; allowed: a value of type int"),
        ({"optim": {"steps": True}}, r"optim\.steps"),
        ({"optim": {"learning_rate": "fast"}}, r"optim\.learning_rate: got 'fast'"),
        ({"optim": {"precision": "float16"}}, r"optim\.precision: got 'float16'.*'float32', 'bfloat16'"),
        ({"model": {"ablation": "none"}}, r"model\.ablation: got 'none'; allowed: one of"),
        ({"model": {"instruction_template": "do it"}}, r"model\.instruction_template"),
        ({"model": {"bundle": "b", "overrides": {"queries": 1}}}, r"model\.bundle gives sizes and weights"),
        ({"distill": {"steps": 3}}, r"distill\.steps: got 3; allowed: 1, 2 or 4"),
        ({"run": {"out": "o", "device": "tpu"}}, r"run\.device: got 'tpu'"),
        ({"run": []}, "run: got"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        parse_config({**LEAST, **changes})


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path: Path) -> None:
    """YAML 1.1 takes 1e-4 for a word."""
    path = tmp_path / "run.yaml"
    path.write_text("data: {root: d, cameras: [c]}\nrun: {out: o}\noptim: {learning_rate: 1e-4}\n")
    assert read_config(path).optim.learning_rate == 1e-4


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(LEAST))
    config = read_config(path, ["optim.steps=7", "data.cameras=[a, b]", "model.bundle=null"])
    assert (config.optim.steps, config.data.cameras, config.model.bundle) == (7, ("a", "b"), None)
    for wrong in ("steps=7", "optim.steps"):
        with pytest.raises(ConfigError, match=r"section\.key=value"):
            read_config(path, [wrong])


@pytest.mark.parametrize(
    ("content", "text"), [(None, "is missing"), ("a: [", "is not YAML"), ("- 1", "no mapping")]
)
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, content: str | None, text: str) -> None:
    path = tmp_path / "run.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=text):
        read_config(path)


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
