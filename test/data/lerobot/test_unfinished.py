# SPDX-License-Identifier: Apache-2.0
"""A data set whose recorder was killed: its whole episodes are used, and what is lost with the others is told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from training_data import CAMERA, FPS

from wam.core.errors import RecordingError
from wam.data.lerobot.episode import EpisodeReader
from wam.data.lerobot.reader import open_dataset

LENGTHS = (20, 30, 14)
MakeDataset = Callable[..., Path]


def cut(path: Path) -> None:
    """Leave a parquet file as a recorder that was killed does."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def total(root: Path) -> None:
    """Count episodes and frames in info.json, as LeRobot does after every episode."""
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "total_episodes": len(LENGTHS), "total_frames": sum(LENGTHS)}))


def split(root: Path, *, meta: bool) -> tuple[Path, Path]:
    """Move the last episode of a v3.0 data set to a second table, and its entry to one; return both."""
    folder = root / "data" / "chunk-000"
    table = pq.read_table(folder / "file-000.parquet", partitioning=None)
    pq.write_table(table.slice(0, sum(LENGTHS[:2])), folder / "file-000.parquet")
    pq.write_table(table.slice(sum(LENGTHS[:2])), folder / "file-001.parquet")
    entries = root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    rows = pq.read_table(entries, partitioning=None)
    file = [0, 0, 1]
    index = rows.schema.get_field_index("data/file_index")
    rows = rows.set_column(index, "data/file_index", [file])
    second = entries.with_name("file-001.parquet")
    pq.write_table(rows.slice(0, 2) if meta else rows, entries)
    if meta:
        pq.write_table(rows.slice(2), second)
    return folder / "file-001.parquet", second


def test_one_unfinished_table_costs_its_episode(make_dataset: MakeDataset) -> None:
    root = make_dataset(lengths=LENGTHS)
    path = root / "data" / "chunk-000" / "episode_000001.parquet"
    cut(path)
    dataset = open_dataset(root)
    assert [episode.index for episode in dataset.present()] == [0, 2]
    (lost,) = dataset.unfinished
    assert (lost.path, lost.episodes, lost.frames) == (path, (1,), 30)
    assert lost.seconds == pytest.approx(30 / FPS)
    told = (
        f"{path} has no end, since its recorder was killed or the copy is incomplete, and nothing in it can be read: "
        f"lost are 1 episodes (1) of 30 frames ({30 / FPS:.2f} s)"
    )
    reader = EpisodeReader(dataset, 2)
    assert len(reader.episode.stamps) == LENGTHS[2]
    assert reader.warnings == [told]
    with pytest.raises(RecordingError, match=re.escape(told) + "; allowed: episode 0, 2;"):
        EpisodeReader(dataset, 1)


def test_an_unfinished_table_of_many_episodes_costs_those_alone(make_dataset: MakeDataset) -> None:
    root = make_dataset(version="v3.0", lengths=LENGTHS)
    table, _ = split(root, meta=False)
    cut(table)
    dataset = open_dataset(root)
    assert [episode.index for episode in dataset.present()] == [0, 1]
    (lost,) = dataset.unfinished
    assert (lost.path, lost.episodes, lost.frames) == (table, (2,), LENGTHS[2])
    assert len(dataset.frames(dataset.episodes[1], CAMERA, [0, 29])) == 2


def test_entries_that_are_lost_are_counted_by_what_info_json_promises(make_dataset: MakeDataset) -> None:
    """The whole data set was refused."""
    root = make_dataset(version="v3.0", lengths=LENGTHS)
    total(root)
    table, entries = split(root, meta=True)
    cut(table)
    cut(entries)
    dataset = open_dataset(root)
    assert [episode.index for episode in dataset.present()] == [0, 1]
    (lost,) = dataset.unfinished
    assert (lost.path, lost.episodes, lost.count, lost.frames) == (entries, (), 1, LENGTHS[2])
    with pytest.raises(
        RecordingError, match=r"file-001.parquet has no end.*lost are 1 episodes of 14 frames"
    ):
        EpisodeReader(dataset, 2)
    assert EpisodeReader(dataset, 1).warnings == [lost.text()]


def test_a_data_set_of_which_no_entry_is_left_is_refused_with_what_is_lost(make_dataset: MakeDataset) -> None:
    root = make_dataset(version="v3.0", lengths=LENGTHS)
    total(root)
    cut(root / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
    with pytest.raises(
        RecordingError, match=r"file-000.parquet has no end.*lost are 3 episodes of 64 frames"
    ):
        open_dataset(root)


def test_what_nothing_counts_is_not_known(make_dataset: MakeDataset) -> None:
    root = make_dataset(version="v3.0", lengths=LENGTHS)
    table, entries = split(root, meta=True)
    cut(table)
    cut(entries)
    (lost,) = open_dataset(root).unfinished
    assert lost.text().endswith("what it held is not known")


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_a_finished_data_set_has_lost_nothing(make_dataset: MakeDataset, version: str) -> None:
    dataset = open_dataset(make_dataset(version=version, lengths=LENGTHS))
    assert dataset.unfinished == ()
    assert len(dataset.present()) == 3
