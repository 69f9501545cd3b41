# SPDX-License-Identifier: Apache-2.0
"""Data sets as labs have them: other names, units and keys, videos that do not fit their tables, incomplete copies."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_dataset import write_fake_dataset, write_video

from wam.core.errors import ConfigError, RecordingError
from wam.data.bag.reading import Recording
from wam.data.columns import ColumnOptions, joint_table, range_fault
from wam.data.fakes import CAMERA, fake_image, fake_robot, fake_trajectory
from wam.data.lerobot.episode import EpisodeReader
from wam.data.lerobot.pairing import BY_INDEX, BY_STAMP
from wam.data.lerobot.reader import open_dataset
from wam.data.to_bag import convert_lerobot

ROBOT = fake_robot()
KEY = f"observation.images.{CAMERA}"


def bag_of(path: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    with Recording(path) as recording:
        for message in recording.messages([topic.name for topic in recording.topics]):
            found.setdefault(message.topic, []).append(message.message)
    return found


def edit_table(source: Path, change: Callable[[dict[str, Any]], dict[str, Any]], *, episode: int = 0) -> None:
    path = source / f"data/chunk-000/episode_{episode:06d}.parquet"
    pq.write_table(pa.table(change(pq.read_table(path, partitioning=None).to_pydict())), path)


def edit_features(source: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = source / "meta" / "info.json"
    info = json.loads(path.read_text())
    change(info["features"])
    path.write_text(json.dumps(info))


def measured_video(path: Path, times_s: list[float]) -> None:
    """Write a video whose images have times of their own."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(30))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.bit_rate = 4_000_000
        stream.codec_context.time_base = Fraction(1, 10_000)
        for i, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(fake_image(i, height=48, width=64), format="rgb24")
            frame.pts, frame.time_base = round(time_s * 10_000), Fraction(1, 10_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def rows_seen(source: Path, *, lenient: bool = False) -> dict[int, int]:
    """Return row -> number of the image that conversion pairs with it; training must pair the same."""
    dataset = open_dataset(source)
    means = {round(float(fake_image(i, height=48, width=64).mean()), 1): i for i in range(14)}

    def number(rgb: Any) -> int:
        return means[min(means, key=lambda mean: abs(mean - float(rgb.mean())))]

    reader = EpisodeReader(dataset, 0, lenient=lenient)
    seen = {row: number(rgb) for row, rgb in reader.images(CAMERA)}
    trained = dataset.frames(dataset.episodes[0], KEY, list(seen))
    assert [number(rgb) for rgb in trained] == list(seen.values())
    return seen


@pytest.mark.parametrize(
    ("stamps", "shown"),
    [
        ("late", None),
        ("measured", None),
        (None, [i / 29.97 for i in range(12)]),
        (None, [i / 30 + 0.008 * (i % 3 == 1) for i in range(12)]),
        ("late", [0.05 + i / 30 for i in range(12)]),
    ],
    ids=["table starts late", "measured rows", "29.97 Hz", "measured images", "both start late"],
)
def test_image_i_is_row_is_where_there_are_as_many(
    tmp_path: Path, stamps: str | None, shown: list[float] | None
) -> None:
    """Conversion went by the stamps and training by the number: one of them had every image one step early."""
    source = write_fake_dataset(tmp_path / "set")
    if stamps is not None:
        jitter = 0.004 * (np.arange(12) % 4 == 1) if stamps == "measured" else np.full(12, 1 / 30)
        edit_table(
            source, lambda table: {**table, "timestamp": (np.array(table["timestamp"]) + jitter).tolist()}
        )
    if shown is not None:
        measured_video(source / f"videos/chunk-000/{KEY}/episode_000000.mp4", shown)
    dataset = open_dataset(source)
    assert dataset.pairing(dataset.episodes[0], KEY).rule == BY_INDEX
    assert rows_seen(source) == {i: i for i in range(12)}


def test_a_video_that_is_one_image_short_is_paired_by_time_where_that_is_asked_for(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set", video_frames=11)
    dataset = open_dataset(source)
    assert dataset.pairing(dataset.episodes[0], KEY).rule == BY_STAMP
    with pytest.raises(RecordingError, match="is shorter than the table of episode 0: got '11 images'"):
        rows_seen(source)
    assert rows_seen(source, lenient=True) == {i: i for i in range(11)}


def test_degrees_and_millimetres_are_refused_with_the_options_that_would_fit(tmp_path: Path) -> None:
    """They were written into a bag with a warning, and the bag was then refused as impossible."""
    source = write_fake_dataset(tmp_path / "set")
    degrees = np.rad2deg(fake_trajectory(13, 3) * 4)
    edit_table(
        source,
        lambda table: {**table, "observation.state": degrees[:12].tolist(), "action": degrees[1:].tolist()},
    )
    with pytest.raises(
        RecordingError, match=r"observation.state of .*j.*got '.*'; .*-3 .. 3 rad.*--unit deg"
    ):
        convert_lerobot(source, tmp_path / "bag", robot=ROBOT)
    units = ColumnOptions(units={"": "deg"})
    with pytest.raises(RecordingError, match=r"action of .*--action-unit deg"):
        convert_lerobot(source, tmp_path / "bag", robot=ROBOT, state=units)
    convert_lerobot(source, tmp_path / "bag", robot=ROBOT, state=units, action=units)
    found = bag_of(tmp_path / "bag")
    np.testing.assert_allclose(found["/joint_states"][3].position, np.deg2rad(degrees[3]), rtol=1e-5)
    np.testing.assert_allclose(found["/action"][3].position, np.deg2rad(degrees[4]), rtol=1e-5)


@pytest.mark.parametrize(
    ("unit", "stored", "value"),
    [
        ("rad", 1.5, 1.5),
        ("deg", 90.0, np.pi / 2),
        ("percent", 50.0, 1.5),
        ("percent", -100.0, -3.0),
        ("share", 0.25, -1.5),
        ("ticks", 3072.0, np.pi / 2),
        ("0.5", 3.0, 1.5),
    ],
)
def test_a_unit_is_said_of_all_joints_or_of_one(unit: str, stored: float, value: float) -> None:
    table = np.full((2, 3), stored)
    names = ("d0", "d1", "d2")
    options = ColumnOptions(units={"": unit})
    found = joint_table(table, names, ROBOT, options, what="state", option="--state-name")
    np.testing.assert_allclose(found.values, value)
    alone = ColumnOptions(units={"d1": unit})
    found = joint_table(table, names, ROBOT, alone, what="state", option="--state-name")
    np.testing.assert_allclose(found.values[0], [stored, value, stored])


def test_a_unit_or_joint_that_does_not_exist_is_refused() -> None:
    table, names = np.zeros((1, 3)), ("d0", "d1", "d2")
    for options, why in (
        (ColumnOptions(units={"": "feet"}), "got 'feet'; allowed: rad, m, deg"),
        (ColumnOptions(units={"d7": "deg"}), "has no joint d7"),
        (ColumnOptions(names={"x": "d0"}), "state has no column x"),
        (ColumnOptions(names={"d0": "x"}), "has no joint x"),
    ):
        with pytest.raises(ConfigError, match=why):
            joint_table(table, names, ROBOT, options, what="state", option="--state-name")


def test_only_what_a_column_can_hold_is_proposed() -> None:
    names = ("d0", "d1", "d2")

    def proposed(values: list[float]) -> str:
        table = np.array([values])
        found = joint_table(table, names, ROBOT, ColumnOptions(), what="state", option="--state-name")
        fault = range_fault(found, table, what="state", option="--unit")
        assert fault is not None
        return str(fault)

    assert "--unit deg, or --unit percent (which would fit)" in proposed([90.0, -80.0, 50.0])
    assert "change it in --unit ticks (which would fit)" in proposed([2048.0, 3000.0, 1000.0])
    assert "change it in --unit UNIT or --unit JOINT=UNIT" in proposed([9e5, 0.0, 0.0])


def test_columns_without_names_are_taken_in_order_only_when_that_is_said(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set")

    def unnamed(features: dict[str, Any]) -> None:
        for key in ("observation.state", "action"):
            features[key]["names"] = None

    edit_features(source, unnamed)
    with pytest.raises(RecordingError, match="--in-order takes the columns in the order of the robot file"):
        convert_lerobot(source, tmp_path / "bag", robot=ROBOT)
    order = ColumnOptions(in_order=True)
    convert_lerobot(source, tmp_path / "bag", robot=ROBOT, state=order, action=order)
    np.testing.assert_allclose(
        bag_of(tmp_path / "bag")["/action"][0].position, fake_trajectory(2, 3)[1], rtol=1e-6
    )
    with pytest.raises(
        RecordingError, match="does not have a column for every joint of robot fake: got '3 columns'"
    ):
        convert_lerobot(source, tmp_path / "other", robot=fake_robot(joints=4), state=order, action=order)


def test_names_and_keys_of_other_suites_are_mapped(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set")

    def openpi(features: dict[str, Any]) -> None:
        features["state"], features["actions"] = features.pop("observation.state"), features.pop("action")
        features["actions"]["names"] = ["leader_a", "leader_b", "leader_c"]
        features["image"] = features.pop(KEY)

    edit_features(source, openpi)
    for i in range(2):
        edit_table(
            source,
            lambda table: {
                {"observation.state": "state", "action": "actions"}.get(k, k): v for k, v in table.items()
            },
            episode=i,
        )
    (source / "videos/chunk-000" / KEY).rename(source / "videos/chunk-000/image")
    with pytest.raises(
        RecordingError, match=r"has no feature observation.state; allowed: state, actions.*--state-key"
    ):
        convert_lerobot(source, tmp_path / "bag", robot=ROBOT)
    told = {f"leader_{letter}": f"d{i}" for i, letter in enumerate("abc")}
    convert_lerobot(
        source,
        tmp_path / "bag",
        robot=ROBOT,
        cameras={"image": CAMERA},
        state=ColumnOptions(key="state"),
        action=ColumnOptions(key="actions", names=told),
    )
    found = bag_of(tmp_path / "bag")
    assert found["/action"][0].name == ["j0", "j1", "j2"]
    assert len(found["/cam_high/image_raw/compressed"]) == 12


def test_an_action_of_which_one_name_fits_by_chance_is_left_out_where_lenient(tmp_path: Path) -> None:
    """Only the gripper was called the same, and a replay was judged on it alone."""
    source = write_fake_dataset(tmp_path / "set")

    def leader(features: dict[str, Any]) -> None:
        features["action"]["names"] = ["shoulder", "elbow", "d2"]

    edit_features(source, leader)
    with pytest.raises(RecordingError, match="--action-name COLUMN=j0"):
        convert_lerobot(source, tmp_path / "bag", robot=ROBOT)
    warnings = convert_lerobot(source, tmp_path / "bag", robot=ROBOT, lenient=True).warnings
    assert any("the bag has no action" in line for line in warnings)
    assert "/action" not in bag_of(tmp_path / "bag")


def test_a_camera_that_is_not_used_may_be_missing_for_conversion_and_training(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set")
    edit_features(source, lambda features: features.update({"observation.images.gone": features[KEY]}))
    convert_lerobot(source, tmp_path / "bag", robot=ROBOT)
    dataset = open_dataset(source)
    assert len(dataset.present([KEY])) == 2
    assert dataset.present() == ()
    with pytest.raises(RecordingError, match=r"episode_000000.mp4 of the data set is missing"):
        convert_lerobot(source, tmp_path / "other", robot=ROBOT, cameras={"gone": CAMERA, CAMERA: "unused"})
    assert not (tmp_path / "other").exists()


def test_a_git_lfs_pointer_is_named_wherever_it_stands_for_a_file(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123456\n"
    for i, name in enumerate(
        (
            "meta/info.json",
            "data/chunk-000/episode_000000.parquet",
            f"videos/chunk-000/{KEY}/episode_000000.mp4",
        )
    ):
        source = write_fake_dataset(tmp_path / f"set{i}")
        (source / name).write_text(pointer)
        with pytest.raises(RecordingError, match=r"is a Git LFS pointer, not the file: .*`git lfs pull`"):
            convert_lerobot(source, tmp_path / "bag", robot=ROBOT)


def test_an_episode_in_another_file_than_meta_says_is_found_and_told(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set", version="v3.0")
    folder = source / "data" / "chunk-000"
    table = pq.read_table(folder / "file-000.parquet", partitioning=None)
    pq.write_table(table.slice(0, 12), folder / "file-000.parquet")
    pq.write_table(table.slice(12), folder / "file-001.parquet")
    for place in (folder, source / "meta" / "episodes" / "chunk-000"):
        (place / "._file-000.parquet").write_bytes(b"\x00\x05\x16\x07 resource fork of a Mac")
    (warning,) = convert_lerobot(source, tmp_path / "bag", robot=ROBOT, episode=1).warnings
    assert "names file-000.parquet for episode 1, but its rows are in file-001.parquet" in warning
    dataset = open_dataset(source)
    np.testing.assert_allclose(
        dataset.column(dataset.episodes[1], "observation.state"), fake_trajectory(12, 3), rtol=1e-5, atol=1e-6
    )


def test_a_row_that_is_not_finite_is_refused_or_left_out(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set")
    edit_table(source, lambda table: {**table, "action": [*table["action"][:-1], [float("nan")] * 3]})
    with pytest.raises(RecordingError, match="row 11, is not finite"):
        convert_lerobot(source, tmp_path / "bag", robot=ROBOT)
    warnings = convert_lerobot(source, tmp_path / "bag", robot=ROBOT, lenient=True).warnings
    assert any(
        "1 rows of action hold numbers that are not finite and are left out" in line for line in warnings
    )
    found = bag_of(tmp_path / "bag")
    assert (len(found["/joint_states"]), len(found["/action"])) == (12, 11)


def test_a_video_of_a_v3_file_ends_where_the_next_episode_begins(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set", version="v3.0")
    path = source / "videos" / KEY / "chunk-000" / "file-000.mp4"
    write_video(path, count=23, fps=30, height=48, width=64)
    dataset = open_dataset(source)
    assert [dataset.pairing(episode, KEY).rule for episode in dataset.episodes] == [BY_INDEX, BY_STAMP]
    assert [dataset.pairing(episode, KEY).images for episode in dataset.episodes] == [12, 11]
