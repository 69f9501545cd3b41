# SPDX-License-Identifier: Apache-2.0
"""A scenario over episodes of a LeRobot data set: what the file may say, and what becomes of the converted bags."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_dataset import write_fake_dataset

from wam.core.errors import ConfigError
from wam.data.bag.reading import Recording
from wam.data.fakes import fake_robot
from wam.evaluation.replay.dataset_source import converted, parse_dataset, ranges

ROBOT = fake_robot()
FILE = Path("lab.yaml")


def source(path: Path, **content: Any) -> Any:
    return parse_dataset({"dataset": str(path), **content}, path.parent / "lab.yaml")


def test_episodes_are_numbers_and_ranges_or_all() -> None:
    assert parse_dataset({"dataset": "d", "episodes": [0, 1, "5-9"]}, FILE).episodes == (0, 1, 5, 6, 7, 8, 9)
    assert parse_dataset({"dataset": "d", "episodes": "all"}, FILE).episodes is None
    assert parse_dataset({"dataset": "d"}, FILE).episodes is None
    assert ranges([0, 3, 4, 5, 9]) == "0, 3-5, 9"
    assert ranges([]) == ""


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"dataset": 3}, "dataset: got '3'"),
        ({"episodes": 3}, "episodes: got '3'; allowed: all, or a list"),
        ({"episodes": [1, "1-2"]}, "distinct numbers"),
        ({"episodes": ["a"]}, "episodes: got"),
        ({"episodes": [True]}, "episodes: got"),
        ({"episodes": [-1]}, "episodes: got"),
        ({"episodes": ["9-5"]}, "episodes: got"),
        ({"convert": {"units": "deg"}}, r"convert: got \['units'\]"),
        ({"convert": ["deg"]}, "convert: got 'list'"),
        ({"convert": {"in_order": "yes"}}, "convert.in_order: got 'yes'; allowed: true or false"),
        ({"convert": {"keep": 1}}, "convert.keep: got '1'"),
        ({"convert": {"unit": ["deg"]}}, "convert.unit: got"),
        ({"convert": {"camera": "top"}}, "convert.camera: got 'top'; allowed: a mapping"),
    ],
)
def test_what_a_file_may_not_say_is_told_with_what_it_may(content: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        parse_dataset({"dataset": "d", **content}, FILE)


def test_units_and_names_are_stated_as_on_the_command_line() -> None:
    told = parse_dataset(
        {
            "dataset": "d",
            "convert": {
                "unit": {"all": "deg", "gripper": 0.001},
                "state_name": {"a": "j0"},
                "camera": {"top": "c"},
            },
        },
        FILE,
    )
    assert told.state.units == told.action.units == {"": "deg", "gripper": "0.001"}
    assert told.state.names == {"a": "j0"}
    assert told.action.names == {}
    assert told.cameras == {"top": "c"}
    assert parse_dataset({"dataset": "d", "convert": {"unit": "deg"}}, FILE).state.units == {"": "deg"}


def test_episodes_become_bags_that_are_gone_afterwards(tmp_path: Path) -> None:
    path = write_fake_dataset(tmp_path / "set", episodes=3)
    seen: list[tuple[int, int]] = []
    with converted(
        source(path, episodes=[2, 0]), ROBOT, beside=tmp_path / "out", progress=lambda *at: seen.append(at)
    ) as bags:
        assert [bag.name for bag in bags] == ["episode_000002", "episode_000000"]
        assert set(bags.values()) == {""}
        with Recording(next(iter(bags))) as recording:
            assert recording.custom["wam.episode"] == "2"
    assert seen == [(1, 2), (2, 2)]
    assert list((tmp_path / "out").iterdir()) == []


def test_all_are_those_whose_files_are_there_and_others_are_refused(tmp_path: Path) -> None:
    path = write_fake_dataset(tmp_path / "set", episodes=3)
    (path / "data" / "chunk-000" / "episode_000001.parquet").unlink()
    with converted(source(path), ROBOT, beside=tmp_path) as bags:
        assert [bag.name for bag in bags] == ["episode_000000", "episode_000002"]
    with pytest.raises(
        ConfigError, match=r"lacks episodes: got \[1, 7\]; allowed: 0, 2; change it in .*lab.yaml"
    ):
        with converted(source(path, episodes=[0, 1, 7]), ROBOT, beside=tmp_path):
            pass


def test_an_episode_that_cannot_be_converted_does_not_stop_the_others(tmp_path: Path) -> None:
    path = write_fake_dataset(tmp_path / "set", episodes=2)
    (video,) = path.rglob("episode_000000.mp4")
    video.write_bytes(b"")
    with converted(source(path), ROBOT, beside=tmp_path) as bags:
        first, second = bags.values()
    assert first.startswith("cannot be converted: ")
    assert second == ""


def test_kept_bags_are_taken_again_unless_they_were_converted_otherwise(tmp_path: Path) -> None:
    path = write_fake_dataset(tmp_path / "set", episodes=1)
    chosen = source(path, convert={"keep": "bags"})
    with converted(chosen, ROBOT, beside=tmp_path) as bags:
        (bag,) = bags
    assert bag == tmp_path / "bags" / "episode_000000"
    shutil.rmtree(path / "videos")
    with converted(chosen, ROBOT, beside=tmp_path) as again:
        assert again == {bag: ""}
    other = replace(chosen, state=replace(chosen.state, units={"": "deg"}))
    with pytest.raises(ConfigError, match=r"were converted otherwise .*allowed: the same data set"):
        with converted(other, ROBOT, beside=tmp_path):
            pass
