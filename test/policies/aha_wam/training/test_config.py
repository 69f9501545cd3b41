# SPDX-License-Identifier: Apache-2.0
"""Configuration of AHA-WAM runs: the released defaults, and dotted paths in every refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from wam.core.errors import ConfigError
from wam.policies.aha_wam.training.ablation import Ablation
from wam.policies.aha_wam.training.config import AhaWamOptimSection, AhaWamTrainConfig
from wam.policies.aha_wam.training.distill import AnchorBias
from wam.policies.aha_wam.training.start import preset_config
from wam.training.config_reading import parse_config, read_config, to_plain
from wam.training.options import Precision

CONFIGS = Path(__file__).parents[4] / "config" / "training"
LEAST: dict[str, Any] = {"data": {"root": "d", "cameras": ["c"]}, "run": {"out": "o"}}


def test_the_defaults_are_those_of_the_released_code() -> None:
    config = parse_config(AhaWamTrainConfig, LEAST)
    assert config.optim == AhaWamOptimSection(
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
    config = parse_config(
        AhaWamTrainConfig, {**LEAST, "model": {"ablation": "ovcr", "overrides": {"queries": 3}}}
    )
    assert parse_config(AhaWamTrainConfig, yaml.safe_load(yaml.safe_dump(to_plain(config)))) == config


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("aha_wam*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_configuration_is_valid(path: Path) -> None:
    config = read_config(AhaWamTrainConfig, path, ["data.root=d"])
    assert isinstance(config, AhaWamTrainConfig)
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
        parse_config(AhaWamTrainConfig, {**LEAST, **changes})


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path: Path) -> None:
    """YAML 1.1 takes 1e-4 for a word."""
    path = tmp_path / "run.yaml"
    path.write_text("data: {root: d, cameras: [c]}\nrun: {out: o}\noptim: {learning_rate: 1e-4}\n")
    assert read_config(AhaWamTrainConfig, path).optim.learning_rate == 1e-4


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(LEAST))
    config = read_config(
        AhaWamTrainConfig, path, ["optim.steps=7", "data.cameras=[a, b]", "model.bundle=null"]
    )
    assert (config.optim.steps, config.data.cameras, config.model.bundle) == (7, ("a", "b"), None)
    for wrong in ("steps=7", "optim.steps"):
        with pytest.raises(ConfigError, match=r"section\.key=value"):
            read_config(AhaWamTrainConfig, path, [wrong])


@pytest.mark.parametrize(
    ("content", "text"), [(None, "is missing"), ("a: [", "is not YAML"), ("- 1", "not a mapping")]
)
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, content: str | None, text: str) -> None:
    path = tmp_path / "run.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=text):
        read_config(AhaWamTrainConfig, path)
