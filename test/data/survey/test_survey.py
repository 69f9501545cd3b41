# SPDX-License-Identifier: Apache-2.0
"""A survey says what a recording or a data set holds, without a robot and without reading most of a large one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fake_dataset import write_fake_dataset

from wam.core.errors import RecordingError
from wam.data.bag.topics import EPOCH_NS
from wam.data.bag.writing import Storage, new_bag
from wam.data.fakes import fake_robot, write_fake_bag
from wam.data.survey import BagSurvey, DatasetSurvey, sampling, survey, survey_as_json


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    write_fake_bag(tmp_path / "bag", robot=fake_robot(), seconds=2.0, latency=0.02)
    return tmp_path / "bag"


def of_bag(path: Path) -> BagSurvey:
    found = survey(path)
    assert isinstance(found, BagSurvey)
    return found


def of_dataset(path: Path) -> DatasetSurvey:
    found = survey(path)
    assert isinstance(found, DatasetSurvey)
    return found


@pytest.mark.parametrize("storage", list(Storage))
def test_a_bag_is_told_with_joints_ranges_cameras_and_clocks(tmp_path: Path, storage: Storage) -> None:
    write_fake_bag(tmp_path / "bag", robot=fake_robot(), seconds=2.0, storage=storage, latency=0.02)
    found = of_bag(tmp_path / "bag")
    assert (found.complete, found.sampled, found.messages, found.problems) == (True, 181, 181, ())
    topics = {topic.name: topic for topic in found.topics}
    state, action = topics["/joint_states"], topics["/action"]
    assert [joint.name for joint in state.joints] == ["d0", "d1", "d2"]
    assert (state.count, round(state.rate, 6), state.is_command, action.is_command) == (60, 30.0, False, True)
    assert state.clock is not None
    assert (state.clock.latency_p50_ms, state.clock.without_stamp) == (pytest.approx(20.0), 0)
    first = state.joints[0]
    assert (-0.36 < first.low < -0.35, 0.49 < first.high < 0.51, first.unit.unit) == (True, True, "rad")
    assert first.speed == pytest.approx(1.0, abs=0.02)  # 0.5 sin(2 t)
    (camera,) = found.cameras
    assert camera.camera is not None
    assert (camera.camera.height, camera.camera.width, camera.camera.encoding) == (48, 64, "jpeg")
    assert found.custom == {"wam.robot": "fake"}
    assert camera.size > 60 * 500


def test_a_sample_of_a_large_bag_tells_the_same_and_says_that_it_is_one(
    bag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = of_bag(bag)
    monkeypatch.setattr(sampling, "WHOLE_MESSAGES", 100)
    monkeypatch.setattr(sampling, "EACH", 3)
    part = of_bag(bag)
    assert (part.complete, part.messages, 60 < part.sampled < 170) == (False, 181, True)
    for topic, other in zip(whole.topics, part.topics, strict=True):
        assert (topic.name, topic.count, [j.name for j in topic.joints]) == (
            other.name,
            other.count,
            [j.name for j in other.joints],
        )
        if topic.count > 1:
            assert other.rate == pytest.approx(topic.rate, rel=1e-6)
        if other.clock is not None:
            assert other.clock.gaps == 0  # what lies between two moments was not read, and is no gap


def test_messages_that_a_moment_has_too_many_of_are_not_read(
    bag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "WHOLE_BYTES", 0)
    monkeypatch.setattr(sampling, "MOMENTS", 2)
    monkeypatch.setattr(sampling, "MOST_MESSAGES", 10)
    assert of_bag(bag).sampled == 20


def test_few_large_messages_of_every_topic_suffice(bag: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve moments of raw images were 200 MB to read: several seconds on a slow disk."""
    monkeypatch.setattr(sampling, "WHOLE_BYTES", 0)
    monkeypatch.setattr(sampling, "MOMENTS", 2)
    monkeypatch.setattr(sampling, "ENOUGH_BYTES", 1)
    found = of_bag(bag)
    assert 2 * 2 * sampling.FEWER <= found.sampled < 2 * 3 * (sampling.FEWER + 4)
    assert found.topics[1].rate == pytest.approx(30.0, rel=0.1)


def test_numbers_without_names_not_finite_and_on_another_clock_are_told(tmp_path: Path) -> None:
    with new_bag(tmp_path / "bag", storage=Storage.MCAP, metadata={}) as bag:
        for i in range(50):
            time_ns = EPOCH_NS + i * 20_000_000
            value = np.nan if i == 7 else 90.0
            bag.joint_state("/joint_states", time_ns, names=("a", "b"), positions=np.array([value, 30.0]))
            late = np.array([1.0])
            bag.joint_state(
                "/arm/state", time_ns - 700_000_000, names=("c",), positions=late, receive_ns=time_ns
            )
    found = of_bag(tmp_path / "bag")
    joints = {joint.name: joint for topic in found.topics for joint in topic.joints}
    assert (joints["a"].not_finite, joints["a"].high, joints["a"].unit.unit) == (1, 90.0, "deg")
    text = " | ".join(found.problems)
    assert "not finite, for example a in 1 of 50" in text
    assert "/arm/state: received 0.70 s later" in text


def test_a_bag_that_was_cut_off_is_told_up_to_its_end(bag: Path) -> None:
    (file,) = bag.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    found = of_bag(bag)
    assert 0 < found.messages < 181
    assert any("ends before its recorder had finished it" in line for line in found.problems)


@pytest.mark.parametrize("version", ["v2.0", "v2.1", "v3.0"])
def test_a_data_set_of_any_version_is_told(tmp_path: Path, version: str) -> None:
    found = of_dataset(write_fake_dataset(tmp_path / "data", version=version))
    assert (found.version, found.fps, found.rows, found.sampled, found.problems) == (version, 30.0, 24, 2, ())
    assert found.tasks == ("pick up the cube",)
    features = {feature.name: feature for feature in found.features}
    state = features["observation.state"].columns
    assert ([column.name for column in state], state[0].unit.unit) == (["d0", "d1", "d2"], "rad")
    (camera,) = [feature.camera for feature in found.features if feature.camera is not None]
    assert (camera.height, camera.width, camera.encoding) == (48, 64, "mpeg4")
    assert {file.name for file in found.files} == {"meta", "data", "videos"}


def test_what_a_data_set_lacks_is_told(tmp_path: Path) -> None:
    root = write_fake_dataset(tmp_path / "data")
    for video in root.rglob("episode_000001.mp4"):
        video.unlink()
    (table,) = root.rglob("episode_000000.parquet")
    table.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", encoding="utf-8")
    found = of_dataset(root)
    assert found.episodes[1].missing == ("videos/chunk-000/observation.images.cam_high/episode_000001.mp4",)
    assert any("1 of 2 episodes lack files" in line for line in found.problems)
    assert sum("Git LFS pointer" in line for line in found.problems) == 1


def test_both_surveys_are_json(tmp_path: Path, bag: Path) -> None:
    for path, kind in ((bag, "recording"), (write_fake_dataset(tmp_path / "data"), "dataset")):
        plain = survey_as_json(survey(path))
        assert json.loads(json.dumps(plain, allow_nan=False))["kind"] == kind


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing", "does not exist"),
        ("empty", "no storage file"),
        ("text", "not a recording"),
        ("mcap", "truncated, damaged"),
        ("db3", "its tables are lost"),
        ("meta", "not a LeRobot data set"),
        ("info", "lacks codebase_version"),
        ("many", "no storage file"),
    ],
)
def test_what_is_neither_is_refused_in_one_line(tmp_path: Path, name: str, says: str) -> None:
    path = tmp_path / name
    if name in ("empty", "many"):
        path.mkdir()
        for i in range(500 if name == "many" else 0):
            (path / f"{i}.txt").write_text("", encoding="utf-8")
    elif name in ("meta", "info"):
        (path / "meta").mkdir(parents=True)
        if name == "info":
            (path / "meta" / "info.json").write_text("{}", encoding="utf-8")
    elif name != "nothing":
        path = tmp_path / f"file.{'txt' if name == 'text' else name}"
        path.write_bytes(b"not what the suffix says" * 100)
    with pytest.raises(RecordingError, match=says) as error:
        survey(path)
    assert "\n" not in str(error.value)


def test_a_folder_that_may_not_be_read_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "bag").mkdir()
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(RecordingError, match=r"bag cannot be read \(Permission denied\)"):
        survey(tmp_path / "bag")
