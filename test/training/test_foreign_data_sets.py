# SPDX-License-Identifier: Apache-2.0
"""A data set with keys of another suite trains under those; one in other units is converted by two commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_dataset import write_fake_dataset
from robot_recordings import fake_robot_file

from wam.cli.main import run
from wam.core.errors import RecordingError
from wam.data.fakes import CAMERA, fake_trajectory
from wam.training.episodes import Columns, EpisodeTable, open_run_data
from wam.training.options import DataSection

IMAGES = f"observation.images.{CAMERA}"
KEYS = {"observation.state": "state", "action": "actions"}


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A data set with openpi's keys, in degrees."""
    source = write_fake_dataset(tmp_path / "foreign")
    info = source / "meta" / "info.json"
    content = json.loads(info.read_text())
    content["features"] = {KEYS.get(name, name): one for name, one in content["features"].items()}
    info.write_text(json.dumps(content))
    for path in sorted(source.glob("data/**/*.parquet")):
        table = pq.read_table(path, partitioning=None).to_pydict()
        for ours, theirs in KEYS.items():
            degrees = np.rad2deg(np.array(table.pop(ours)))
            table[theirs] = pa.array(degrees.astype(np.float32).tolist())
        pq.write_table(pa.table(table), path)
    return source


def section(root: Path, state: str = "observation.state", action: str = "action") -> DataSection:
    return DataSection(root=root, cameras=(IMAGES,), state=state, action=action)


def states(data: DataSection) -> np.ndarray:
    """Return the joint states of the first episode as training reads them."""
    table = open_run_data(data, Columns(data.cameras, data.state, data.action), seed=0).train
    assert isinstance(table, EpisodeTable)
    return np.asarray(table.dataset.column(table.episodes[0], data.state or ""))


def test_other_keys_are_named_in_the_configuration_and_the_error_tells_how(foreign: Path) -> None:
    with pytest.raises(
        RecordingError, match=r"no feature 'observation.state'.*--set data.state=NAME"
    ) as caught:
        states(section(foreign))
    assert f"wam convert lerobot {foreign} BAG --robot R --unit deg" in str(caught.value)
    read = states(section(foreign, "state", "actions"))
    np.testing.assert_allclose(read, np.rad2deg(fake_trajectory(13, 3)[:12]), atol=1e-3)


def test_a_data_set_in_degrees_trains_in_radians_after_the_two_commands(
    foreign: Path, tmp_path: Path
) -> None:
    robot = ["--robot", str(fake_robot_file(tmp_path))]
    keys = ["--state-key", "state", "--action-key", "actions"]
    bag, made = str(tmp_path / "bag"), str(tmp_path / "set")
    assert run(["convert", "lerobot", str(foreign), bag, *robot, *keys, "--unit", "deg"]) == 0
    assert run(["convert", "bag", bag, made, *robot, "--fps", "30"]) == 0
    read = states(section(tmp_path / "set"))
    np.testing.assert_allclose(read, fake_trajectory(13, 3)[:12], atol=1e-5)
