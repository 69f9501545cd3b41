# SPDX-License-Identifier: Apache-2.0
"""Statistics of data sets and their file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wam.core.errors import BundleError
from wam.models.normalisation import Normaliser, PolicyStats
from wam.policies.aha_wam.convert.dataset_stats import read_dataset_stats
from wam.training.statistics import DatasetStats, field_statistics, write_dataset_stats

NAMES = ("shoulder", "elbow")


def episodes(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(n, 2)) * (1, 3) + (i, -i)).astype(np.float32) for i, n in enumerate(lengths)]


def test_every_episode_weighs_the_same_however_long() -> None:
    parts = episodes(1000, 10)
    found = field_statistics(parts, what="action", names=NAMES)
    means = [p.astype(np.float64).mean(0) for p in parts]
    np.testing.assert_allclose(found.values["mean"], np.mean(means, axis=0))
    balanced = np.concatenate([parts[0], np.repeat(parts[1], 100, axis=0)]).astype(np.float64)
    np.testing.assert_allclose(found.values["std"], balanced.std(0), rtol=1e-6)


def test_outer_quantiles_and_limits_are_the_outermost_of_all_episodes() -> None:
    parts = episodes(200, 300)
    found = field_statistics(parts, what="action", names=NAMES)
    both = np.concatenate(parts)
    np.testing.assert_allclose(found.values["min"], both.min(0))
    np.testing.assert_allclose(found.values["max"], both.max(0))
    low = np.min([np.quantile(p.astype(np.float64), 0.01, axis=0) for p in parts], axis=0)
    np.testing.assert_allclose(found.values["q01"], low)


def test_the_written_file_is_the_one_that_the_released_loader_reads(tmp_path: Path) -> None:
    field = field_statistics(episodes(50, 60), what="action", names=NAMES)
    path = tmp_path / "dataset_stats.json"
    write_dataset_stats(path, DatasetStats(PolicyStats(field, field), 2, 110))
    raw = json.loads(path.read_text())
    assert (raw["num_episodes"], raw["num_transition"]) == (2, 110)
    assert set(raw["state"]["default"]) == {
        f"global_{n}" for n in ("mean", "std", "min", "max", "q01", "q99")
    }
    back = read_dataset_stats(path, state_width=2, action_width=2)
    for name, values in field.values.items():
        np.testing.assert_array_equal(back.action.values[name], values)


def test_a_joint_that_never_moves_is_named_unless_a_floor_is_given() -> None:
    parts = episodes(50)
    parts[0][:, 1] = 0.7
    with pytest.raises(BundleError, match=r"1 joints never move.*elbow.*data\.min_std"):
        field_statistics(parts, what="action", names=NAMES)
    found = field_statistics(parts, what="action", names=NAMES, min_std=0.01)
    assert found.values["std"][1] == 0.01
    assert Normaliser(found).to_model(parts[0][0])[1] == pytest.approx(0.0, abs=1e-4)


def test_numbers_that_are_not_finite_never_become_statistics() -> None:
    parts = episodes(50)
    parts[0][3, 0] = np.nan
    with pytest.raises(BundleError, match="action holds numbers that are not finite"):
        field_statistics(parts, what="action", names=NAMES)


@pytest.mark.parametrize(("value", "text"), [(float("nan"), "not finite"), (0.0, "zero or negative")])
def test_a_file_with_nan_or_zero_std_is_refused(tmp_path: Path, value: float, text: str) -> None:
    field = field_statistics(episodes(50), what="action", names=NAMES)
    path = tmp_path / "dataset_stats.json"
    write_dataset_stats(path, DatasetStats(PolicyStats(field, field), 1, 50))
    raw = json.loads(path.read_text())
    raw["action"]["default"]["global_std"][1] = value
    path.write_text(json.dumps(raw))
    with pytest.raises(BundleError, match=text):
        read_dataset_stats(path, state_width=2, action_width=2)
