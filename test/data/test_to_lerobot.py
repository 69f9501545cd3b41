# SPDX-License-Identifier: Apache-2.0
"""Recordings become episodes of a LeRobot data set, and a data set survives the way through bags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from fake_dataset import write_fake_dataset

from wam.core.errors import ConfigError, RecordingError
from wam.data.bag.topics import EPOCH_NS
from wam.data.bag.writing import BagWriter, Storage, new_bag
from wam.data.fakes import fake_image, fake_robot, fake_trajectory, write_fake_bag
from wam.data.lerobot.episode import EpisodeReader, RecordedEpisode
from wam.data.lerobot.format import Version
from wam.data.lerobot.reader import open_dataset
from wam.data.to_bag import convert_lerobot
from wam.data.to_lerobot import BagOptions, convert_bags

ROBOT = fake_robot()


def images(root: Path, episode: int) -> list[Any]:
    return [rgb for _, rgb in EpisodeReader(open_dataset(root), episode).images("cam_high")]


def table(root: Path, episode: int = 0) -> RecordedEpisode:
    return EpisodeReader(open_dataset(root), episode).episode


@pytest.mark.parametrize("version", list(Version))
@pytest.mark.parametrize("source_version", ["v2.1", "v3.0"])
def test_a_data_set_comes_back_from_bags_as_it_was(
    tmp_path: Path, version: Version, source_version: str
) -> None:
    source = write_fake_dataset(tmp_path / "set", version=source_version)
    bags = [tmp_path / f"bag{i}" for i in range(2)]
    for episode, bag in enumerate(bags):
        convert_lerobot(source, bag, robot=ROBOT, episode=episode)
    done = convert_bags(bags, tmp_path / "back", robot=ROBOT, options=BagOptions(version=version))
    assert done.rows == (12, 12)
    assert done.warnings == ()
    for episode in range(2):
        before, after = (table(root, episode) for root in (source, tmp_path / "back"))
        assert after.instruction == before.instruction == "pick up the cube"
        assert after.fps == before.fps
        assert after.state_names == after.action_names == ROBOT.joint_names
        np.testing.assert_allclose(after.stamps, before.stamps, atol=1e-6)
        np.testing.assert_allclose(after.state, before.state, atol=1e-6)
        np.testing.assert_allclose(after.action, before.action, atol=1e-6)
        pairs = list(zip(images(source, episode), images(tmp_path / "back", episode), strict=True))
        assert len(pairs) == 12
        for one, other in pairs:
            assert np.abs(one.astype(int) - other.astype(int)).mean() < 3.0


@pytest.mark.parametrize("version", list(Version))
def test_the_training_reader_takes_what_was_written(tmp_path: Path, version: Version) -> None:
    write_fake_bag(tmp_path / "bag", robot=ROBOT, seconds=1.0)
    convert_bags([tmp_path / "bag"], tmp_path / "set", robot=ROBOT, options=BagOptions(version=version))
    dataset = open_dataset(tmp_path / "set")
    episode = dataset.present()[0]
    assert dataset.tasks == {0: "follow the sine"}
    assert dataset.column(episode, "observation.state").shape == (30, 3)
    assert dataset.frames(episode, "observation.images.cam_high", [0, 29]).shape == (2, 48, 64, 3)
    expected = fake_image(29, height=48, width=64)
    last = dataset.frames(episode, "observation.images.cam_high", [29])[0]
    assert np.abs(last.astype(int) - expected.astype(int)).mean() < 3.0


def test_statistics_are_those_of_the_table(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_fake_bag(tmp_path / name, robot=ROBOT, seconds=1.0 if name == "a" else 0.5)
    bags = [tmp_path / "a", tmp_path / "b"]
    convert_bags(bags, tmp_path / "set", robot=ROBOT, options=BagOptions(version=Version.V30))
    told = json.loads((tmp_path / "set/meta/stats.json").read_text())["observation.state"]
    tables = [pq.read_table(path) for path in sorted((tmp_path / "set/data").rglob("*.parquet"))]
    state = np.concatenate([np.array(t["observation.state"].to_pylist()) for t in tables])
    assert told["count"] == [45]
    np.testing.assert_allclose(told["mean"], state.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(told["std"], state.std(axis=0), atol=1e-6)


def test_streams_of_other_rates_are_brought_to_the_rows(tmp_path: Path) -> None:
    """Joint states at 200 Hz, out of phase with the images: values lie between the samples."""
    rate, group = 200.0, ROBOT.groups[0]
    with new_bag(tmp_path / "bag", storage=Storage.MCAP, metadata={"wam.instruction": "wave"}) as bag:
        for row in range(200):
            stamp_ns = EPOCH_NS + round((row + 0.3) * 1e9 / rate)
            angle = np.full(3, np.sin((row + 0.3) / rate))
            bag.joint_state(f"/{group.state_topic}", stamp_ns, names=group.driver_names, positions=angle)
            if row % 7 == 0:
                rgb = fake_image(row // 7, height=48, width=64)
                _jpeg(bag, stamp_ns, rgb)
    convert_bags([tmp_path / "bag"], tmp_path / "set", robot=ROBOT, options=BagOptions(fps=25))
    episode = table(tmp_path / "set")
    np.testing.assert_allclose(episode.state[:, 0], np.sin(episode.stamps + 0.3 / rate), atol=1e-5)
    assert len(episode.stamps) == 25
    assert episode.action is None


def _jpeg(bag: BagWriter, stamp_ns: int, rgb: Any) -> None:
    import cv2

    data = cv2.imencode(".jpg", rgb[..., ::-1])[1]
    bag.jpeg("/cam_high/image_raw/compressed", stamp_ns, frame_id="", data=data)


def gapped(path: Path) -> Path:
    """Write a bag in which the joint states stop for 0.6 s while images go on."""
    group = ROBOT.groups[0]
    state = fake_trajectory(60, 3)
    with new_bag(path, storage=Storage.MCAP, metadata={"wam.instruction": "wave"}) as bag:
        for row in range(60):
            stamp_ns = EPOCH_NS + round(row * 1e9 / 30)
            if not 20 <= row < 38:
                names = group.driver_names
                bag.joint_state(f"/{group.state_topic}", stamp_ns, names=names, positions=state[row])
            _jpeg(bag, stamp_ns, fake_image(row, height=48, width=64))
    return path


def test_a_gap_is_refused_and_held_over_where_lenient(tmp_path: Path) -> None:
    bag = gapped(tmp_path / "bag")
    with pytest.raises(RecordingError, match="the joint state has a gap"):
        convert_bags([bag], tmp_path / "set", robot=ROBOT)
    assert not (tmp_path / "set").exists()
    done = convert_bags([bag], tmp_path / "set", robot=ROBOT, options=BagOptions(lenient=True))
    assert any("held over a gap in 18 rows" in text for text in done.warnings)
    state = table(tmp_path / "set").state
    np.testing.assert_array_equal(state[20:38], np.repeat(state[19:20], 18, axis=0))


def test_a_recording_without_a_task_text_asks_for_one(tmp_path: Path) -> None:
    group = ROBOT.groups[0]
    with new_bag(tmp_path / "bag", storage=Storage.MCAP, metadata={}) as bag:
        for row in range(10):
            stamp_ns = EPOCH_NS + round(row * 1e9 / 30)
            names = group.driver_names
            bag.joint_state(f"/{group.state_topic}", stamp_ns, names=names, positions=np.zeros(3))
            _jpeg(bag, stamp_ns, fake_image(row, height=48, width=64))
    with pytest.raises(RecordingError, match=r"holds no task text.*--instruction"):
        convert_bags([tmp_path / "bag"], tmp_path / "set", robot=ROBOT)
    convert_bags(
        [tmp_path / "bag"], tmp_path / "set", robot=ROBOT, options=BagOptions(instruction="stand still")
    )
    assert table(tmp_path / "set").instruction == "stand still"


def test_an_unknown_camera_and_an_existing_folder_are_refused(tmp_path: Path) -> None:
    write_fake_bag(tmp_path / "bag", robot=ROBOT, seconds=0.5)
    with pytest.raises(ConfigError, match="has no camera top; allowed: cam_high"):
        convert_bags([tmp_path / "bag"], tmp_path / "set", robot=ROBOT, options=BagOptions(cameras=("top",)))
    (tmp_path / "set").mkdir()
    with pytest.raises(RecordingError, match="exists already"):
        convert_bags([tmp_path / "bag"], tmp_path / "set", robot=ROBOT)
