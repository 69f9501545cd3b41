# SPDX-License-Identifier: Apache-2.0
"""The data-set reader: both formats give the same values, and damage is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from wam.core.errors import RecordingError
from wam.data.lerobot.episode import EpisodeReader
from wam.data.lerobot.reader import open_dataset

CAMERA = "observation.images.head"


def level(episode: int, row: int) -> int:
    return 20 + (row + 37 * episode) % 200


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_both_formats_give_the_same_episodes_numbers_and_tasks(make_dataset, version: str) -> None:
    dataset = open_dataset(make_dataset(version=version))
    assert (dataset.version, dataset.fps, dataset.cameras) == (version, 30.0, (CAMERA,))
    assert [(e.index, e.length, e.tasks) for e in dataset.episodes] == [
        (0, 150, ("lift the cup",)),
        (1, 80, ("put it down",)),
    ]
    assert dataset.tasks == {0: "lift the cup", 1: "put it down"}
    assert dataset.feature("action").names == ("joint0", "joint1", "joint2")
    second = dataset.episodes[1]
    state, action = dataset.column(second, "observation.state"), dataset.column(second, "action")
    np.testing.assert_array_equal(action[:-1], state[1:])
    np.testing.assert_allclose(state[0], np.sin(np.arange(3) + 1), rtol=1e-6)
    assert dataset.task_of_row(second).tolist() == [1] * 80


@pytest.mark.parametrize(("version", "images"), [("v2.1", False), ("v3.0", False), ("v2.1", True)])
def test_a_picture_is_the_one_of_its_row_in_any_order(make_dataset, version: str, images: bool) -> None:
    dataset = open_dataset(make_dataset(version=version, images=images))
    for episode in dataset.episodes:
        rows = [79, 0, 13, 13, 40]
        frames = dataset.frames(episode, CAMERA, rows)
        assert frames.shape == (5, 32, 32, 3)
        expected = [level(episode.index, row) for row in rows]
        np.testing.assert_allclose(frames.mean((1, 2, 3)), expected, atol=1.5)


def test_all_pictures_come_in_order(make_dataset) -> None:
    dataset = open_dataset(make_dataset(lengths=(70,)))
    means = [rgb.mean() for _, rgb in EpisodeReader(dataset, 0).images("head")]
    np.testing.assert_allclose(means, [level(0, row) for row in range(70)], atol=1.5)


def test_a_row_outside_the_episode_is_refused(dataset_root: Path) -> None:
    dataset = open_dataset(dataset_root)
    with pytest.raises(RecordingError, match=r"rows \[80\] of episode 1"):
        dataset.frames(dataset.episodes[1], CAMERA, [3, 80])


def test_episodes_whose_files_are_missing_are_not_present(make_dataset) -> None:
    root = make_dataset()
    (root / "videos" / "chunk-000" / CAMERA / "episode_000000.mp4").unlink()
    dataset = open_dataset(root)
    assert [e.index for e in dataset.present()] == [1]
    with pytest.raises(RecordingError, match=r"episode_000000\.mp4 is missing"):
        dataset.frames(dataset.episodes[0], CAMERA, [0])


def test_a_truncated_table_is_named(make_dataset) -> None:
    root = make_dataset()
    path = root / "data" / "chunk-000" / "episode_000001.parquet"
    path.write_bytes(path.read_bytes()[:-200])
    dataset = open_dataset(root)
    with pytest.raises(
        RecordingError, match=r"episode_000001\.parquet has no end, .*lost are 1 episodes \(1\) of"
    ):
        dataset.column(dataset.episodes[1], "action")


def test_a_truncated_video_is_named(make_dataset) -> None:
    root = make_dataset()
    path = root / "videos" / "chunk-000" / CAMERA / "episode_000000.mp4"
    path.write_bytes(path.read_bytes()[:3000])
    dataset = open_dataset(root)
    with pytest.raises(RecordingError, match=r"episode_000000\.mp4"):
        dataset.frames(dataset.episodes[0], CAMERA, [140])


def test_an_episode_shorter_than_its_metadata_says_is_refused(make_dataset) -> None:
    root = make_dataset()
    path = root / "meta" / "episodes.jsonl"
    path.write_text(path.read_text().replace('"length": 80', '"length": 90'))
    dataset = open_dataset(root)
    with pytest.raises(RecordingError, match="episode 1 has 80 rows"):
        dataset.column(dataset.episodes[1], "action")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"codebase_version": "v1.6"}, "v1.6"),
        ({"fps": 0}, "fps"),
        ({"data_path": "../outside/{episode_index}.parquet"}, "data_path"),
        ({"data_path": "{nonsense}"}, "data_path: got '{nonsense}'"),
        ({"video_path": None}, "video_path: got 'None'"),
    ],
)
def test_metadata_that_cannot_be_used_is_named(make_dataset, change: dict[str, object], text: str) -> None:
    root = make_dataset()
    path = root / "meta" / "info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(RecordingError, match=text):
        open_dataset(root)


def test_a_folder_without_metadata_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"info\.json is missing"):
        open_dataset(tmp_path)


def test_an_unknown_column_names_those_that_exist(dataset_root: Path) -> None:
    dataset = open_dataset(dataset_root)
    with pytest.raises(RecordingError, match=r"no feature 'actions'.*'action'"):
        dataset.column(dataset.episodes[0], "actions")


@pytest.mark.recorded
def test_a_recording_of_a_real_robot_is_read() -> None:
    base = Path(os.environ.get("WAM_TEST_DATA", Path(__file__).parents[3].parent / "shared" / "data"))
    root = base / "g1_inspire_lerobot"
    if not root.is_dir():
        pytest.skip(f"no recorded data in {root}")
    dataset = open_dataset(root)
    episodes = dataset.present()
    assert [(e.index, e.length) for e in episodes] == [(1, 393), (2, 343)]
    assert dataset.column(episodes[0], "action").shape == (393, 26)
    assert len(dataset.feature("observation.state").names) == 26
    frames = dataset.frames(episodes[1], dataset.cameras[0], [342, 0])
    assert frames.shape == (2, 480, 640, 3)
    assert not np.array_equal(frames[0], frames[1])
