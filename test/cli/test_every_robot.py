# SPDX-License-Identifier: Apache-2.0
"""Every robot file of the repository is recorded, converted, replayed and played to the nodes, and its values return.

What was written is a function of time; files are read by rosbags, pyarrow and json, and not by the code under test.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from robot_recordings import (
    RATE,
    States,
    by_topic,
    file_with_small_cameras,
    one_by_one,
    positions_at,
    read_states,
    write_bag,
)

from wam.cli.main import run
from wam.core.clock import NS_PER_S
from wam.data.bag.topics import EPOCH_NS
from wam.devices.loader import load_robot
from wam.robots.description import RobotDescription

ROBOTS = sorted(path.stem for path in (Path(__file__).parents[2] / "config" / "robots").glob("*.yaml"))
SINGLE = 2e-7
"""Largest relative error of a number in single precision, which data sets hold; and a digit for sums."""


def tolerance(robot: RobotDescription) -> float:
    return SINGLE * max(abs(bound) for joint in robot.joints for bound in (joint.lower, joint.upper))


def require_states(bag: Path, robot: RobotDescription, *, least: int) -> None:
    """Assert that every joint of a bag is where it was at the stamp of its message, and none is missing."""
    states = read_states(bag, robot)
    assert len(states) >= least
    whole = 0
    for stamp_ns, found in states.items():
        expected = dict(zip(robot.joint_names, positions_at(robot, stamp_ns).tolist(), strict=True))
        assert found == pytest.approx({name: expected[name] for name in found}, abs=2 * tolerance(robot))
        whole += len(found) == len(expected)
    assert whole >= least


def require_table(dataset: Path, robot: RobotDescription) -> None:
    """Assert that the rows of a data set hold the states of their times, and as action those of the next row."""
    features = json.loads((dataset / "meta" / "info.json").read_text())["features"]
    (file,) = dataset.glob("data/**/*.parquet")
    table = pq.read_table(file)
    stamps = EPOCH_NS + np.round(np.array(table["timestamp"].to_pylist()) * RATE) / RATE * NS_PER_S
    assert len(stamps) > 10
    for column, ahead_ns in (("observation.state", 0.0), ("action", NS_PER_S / RATE)):
        assert tuple(features[column]["names"]) == robot.joint_names
        expected = [positions_at(robot, round(stamp + ahead_ns)) for stamp in stamps.tolist()]
        values = np.array(table[column].to_pylist())
        # The last action may be held.
        np.testing.assert_allclose(values[:-1], expected[:-1], atol=2 * tolerance(robot), err_msg=column)


def require_first_chunk(report: Path, robot: RobotDescription, *, rows_old: int = 0) -> dict[str, Any]:
    """Assert that the fake policy began to wave where the robot was; return the report's summary.

    Args:
        report: folder of the replay's report.
        robot: that was recorded.
        rows_old: by how many rows the state may be older than the image: topics of DDS overtake each other.
    """
    events = [json.loads(line) for line in (report / "events.jsonl").read_text().splitlines()]
    first = next(event for event in events if event["event"] == "chunk")
    ages_ns = [round(row * NS_PER_S / RATE) for row in range(rows_old + 1)]
    expected = np.stack([positions_at(robot, first["stamp_ns"] - age_ns) for age_ns in ages_ns])
    error = np.abs(np.array(first["rows"][0]) - expected).min(axis=0)
    assert error.max() < 4 * tolerance(robot) + 1e-6
    summary: dict[str, Any] = json.loads((report / "summary.json").read_text())
    assert summary["metrics"]["refused_messages"] == 0
    assert summary["metrics"]["joints_compared"] == len(robot.joints)
    return summary


@pytest.mark.parametrize("name", ROBOTS)
@pytest.mark.parametrize(("states", "replayed"), [(by_topic, "back"), (one_by_one, "bag")])
def test_joint_values_return_from_recording_conversion_both_ways_and_replay(
    tmp_path: Path, name: str, states: States, replayed: str
) -> None:
    """Only one robot file went the whole way, and two groups on one topic had once been refused."""
    file = file_with_small_cameras(name, tmp_path)
    robot = load_robot(file)
    bag = write_bag(tmp_path / "bag", robot, states)
    require_states(bag, robot, least=45)
    assert run(["convert", "bag", str(bag), str(tmp_path / "set"), "--robot", str(file)]) == 0
    require_table(tmp_path / "set", robot)
    assert (
        run(["convert", "lerobot", str(tmp_path / "set"), str(tmp_path / "back"), "--robot", str(file)]) == 0
    )
    require_states(tmp_path / "back", robot, least=20)
    report = tmp_path / "report"
    arguments = ["--robot", str(file), "--policy", "fake", "--gate", "none", "--report", str(report)]
    assert run(["replay", str(tmp_path / replayed), *arguments]) == 0
    metrics = require_first_chunk(report, robot)["metrics"]
    assert metrics["chunks"] > 5
    assert metrics["reference_share"] > 0.9


@pytest.mark.ros
@pytest.mark.alone  # the recording is played in real time
@pytest.mark.parametrize("name", ROBOTS)
def test_the_nodes_get_the_values_of_a_recording_and_what_is_recorded_of_them_has_them(
    tmp_path: Path, name: str
) -> None:
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 101 + 1))
    from wam.stack.record import RecordOptions, record

    file = file_with_small_cameras(name, tmp_path)
    robot = load_robot(file)
    bag = write_bag(tmp_path / "bag", robot, by_topic, seconds=3.0)
    stop = threading.Event()
    options = RecordOptions(out=tmp_path / "recorded")
    recording = threading.Thread(target=record, args=(robot, options), kwargs={"stop": stop})
    recording.start()
    report = tmp_path / "report"
    arguments = ["--robot", str(file), "--policy", "fake", "--gate", "none", "--report", str(report)]
    arguments += ["--mode", "live"]
    try:
        assert run(["replay", str(bag), *arguments]) == 0
    finally:
        stop.set()
        recording.join()
    require_first_chunk(report, robot, rows_old=3)
    # Best-effort subscriptions may miss some, and a busy machine gives few chunks: what there is must be right.
    require_states(tmp_path / "recorded", robot, least=20)
