# SPDX-License-Identifier: Apache-2.0
"""Replays of what labs record: several publishers, groups and clocks; and figures that say what they speak of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from robot_recordings import RATE, States, by_topic, one_by_one, with_camera, write_bag

from wam.core.clock import NS_PER_S
from wam.data.bag.binding import Role, TopicNames, bind_cameras
from wam.data.bag.commands import CommandSample
from wam.data.bag.joint_names import RecordedJoints
from wam.data.bag.joint_samples import JointSamples
from wam.data.bag.reading import Recording
from wam.data.bag.topics import ACTION_TOPIC, EPOCH_NS
from wam.data.bag.writing import BagWriter, Storage, new_bag
from wam.data.fakes import fake_image, fake_robot, fake_trajectory, write_fake_bag
from wam.devices.loader import load_robot
from wam.evaluation.metrics.gate import Gate, parse_gate
from wam.evaluation.metrics.shape import recorded_span
from wam.evaluation.metrics.time_gaps import TimeGap, seconds_recorded
from wam.evaluation.replay.engine import ReplayOptions, ReplaySettings
from wam.evaluation.replay.session import ReplayOutcome, replay
from wam.robots.description import RobotDescription
from wam.runtime.ingest.ingest import StreamIngest
from wam.runtime.policy import PolicyRequest, load_fake

MS = 1_000_000
SETTINGS = ReplaySettings(planner_latency_ns=100 * MS, executor_latency_ns=50 * MS, planner_period_ns=0)


def go(bag: Path, report: Path, robot: RobotDescription, **options: Any) -> ReplayOutcome:
    policy = load_fake(PolicyRequest("fake", planner=True, executor=True), robot=robot)
    chosen = ReplayOptions(bag=bag, policy_name="fake", settings=SETTINGS, **options)
    return replay(chosen, robot=robot, policy=policy, report=report)


@pytest.mark.parametrize("name", ["g1_arms", "g1_inspire", "piper", "franka", "ur5e_inspire"])
@pytest.mark.parametrize("states", [by_topic, one_by_one])
def test_every_robot_file_is_read_however_its_joints_are_spread_over_messages(
    tmp_path: Path, name: str, states: States
) -> None:
    """Two groups on one topic, as in g1_arms, were refused; so were an arm and a gripper from two nodes."""
    robot = with_camera(load_robot(name))
    ingest = StreamIngest(robot, cameras=("head",))
    joints = RecordedJoints(robot, wanted=robot.joint_names)
    state, action = (JointSamples(robot.joint_names, max_gap_ns=100 * MS) for _ in range(2))
    with Recording(write_bag(tmp_path / "bag", robot, states, seconds=0.3)) as recording:
        feeds = bind_cameras(recording, robot=robot, cameras=("head",)).feeds
        for message in recording.messages(list(feeds)):
            feed, content = feeds[message.topic], message.message
            if feed.role is Role.CAMERA:
                ingest.put_image(feed.camera, content)
            elif feed.role is not Role.INSTRUCTION:
                sample = CommandSample(message.time_ns, tuple(content.name), content.position)
                samples = state if feed.role is Role.JOINTS else action
                samples.add(feed.topic, message.time_ns, *joints.read(sample, feed))
            for group in feed.streams if feed.role is Role.JOINTS else ():
                ingest.put_joint_state(group, content)
        seen = ingest.assemble(now_ns=message.time_ns)
    assert ingest.take_notices() == ()
    assert len(state.columns) == len(action.columns) == len(robot.joints)
    # What the ingest gives, and what conversion and comparison read, are the same; the action is the next row's state.
    at = np.array([seen.state.stamp_ns])
    np.testing.assert_allclose(state.at(at)[0], seen.state.positions)
    before = round(NS_PER_S / RATE)
    np.testing.assert_allclose(action.at(at - before)[0], seen.state.positions, atol=1e-4)


@pytest.mark.parametrize("pause_s", [12.0, 4e8])
def test_a_time_without_messages_is_jumped_and_told_however_long_it_is(
    tmp_path: Path, pause_s: float
) -> None:
    """A clock that was set forward by 23 years was ticked through in steps of 0.1 s."""
    robot = with_camera(fake_robot())
    bag = write_bag(tmp_path / "bag", robot, by_topic, seconds=3.0, pauses=[(1.5, pause_s)])
    outcome = go(bag, tmp_path / "report", robot)
    recording = outcome.summary["recording"]
    assert recording["gaps"] == [
        {"after_s": pytest.approx(44 / 30, abs=1e-3), "length_s": pytest.approx(pause_s, abs=0.1)}
    ]
    assert recording["duration_s"] == pytest.approx(3.0, abs=0.1)
    assert any("the clock was set forward; no chunk spans it" in line for line in outcome.summary["warnings"])
    assert outcome.summary["metrics"]["chunks"] > 15
    assert outcome.summary["metrics"]["coverage"] > 0.5


def test_times_in_and_after_gaps_count_what_was_recorded() -> None:
    gaps = (TimeGap(10 * NS_PER_S, 30 * NS_PER_S), TimeGap(40 * NS_PER_S, 140 * NS_PER_S))
    times = np.array([0, 10, 20, 30, 35, 40, 141]) * NS_PER_S
    np.testing.assert_allclose(seconds_recorded(times, start_ns=0, gaps=gaps), [0, 10, 10, 10, 15, 20, 21])


def test_a_gate_on_errors_fails_where_a_fraction_of_the_joints_was_compared(tmp_path: Path) -> None:
    """One of three joints was commanded: the gate passed on it alone, without a word about the others."""
    robot = fake_robot()
    gate = parse_gate({"thresholds": {"action_l1": {"max": 100.0}}}, source="here")
    write_fake_bag(tmp_path / "whole", robot=robot, seconds=2.0)
    whole = go(tmp_path / "whole", tmp_path / "a", robot, gate=Gate.of(gate))
    assert (whole.summary["verdict"], whole.summary["metrics"]["reference_share"]) == ("pass", 1.0)
    assert "3 of 3 joints compared, 100 % of all rows" in whole.page.read_text(encoding="utf-8")
    write_fake_bag(tmp_path / "bag", robot=robot, seconds=2.0, action=False)
    with new_bag(tmp_path / "part", storage=Storage.MCAP, metadata={}) as bag:
        for row in range(60):
            stamp_ns = EPOCH_NS + round(row * NS_PER_S / RATE)
            state = fake_trajectory(row + 1, 3)[row]
            bag.joint_state("/joint_states", stamp_ns, names=("d0", "d1", "d2"), positions=state)
            bag.joint_state(ACTION_TOPIC, stamp_ns, names=("j1",), positions=state[1:2])
            data = np.frombuffer(bytes(fake_jpeg(row)), np.uint8)
            bag.jpeg(f"/{robot.cameras[0].topic}", stamp_ns, frame_id="", data=data)
    part = go(tmp_path / "part", tmp_path / "b", robot, gate=Gate.of(gate)).summary
    assert part["metrics"]["joints_compared"] == 1
    assert part["metrics"]["reference_share"] == pytest.approx(1 / 3)
    assert part["verdict"] == "fail"
    assert [check["metric"] for check in part["gate"] if not check["passed"]] == ["reference_share"]
    stated = parse_gate(
        {"thresholds": {"action_l1": {"max": 100.0}, "reference_share": {"min": 0.3}}}, source="here"
    )
    assert go(tmp_path / "part", tmp_path / "c", robot, gate=Gate.of(stated)).summary["verdict"] == "pass"


def fake_jpeg(row: int) -> bytes:
    import cv2

    return cv2.imencode(".jpg", fake_image(row, height=48, width=64))[1].tobytes()


def test_skill_is_not_judged_of_a_robot_at_rest(tmp_path: Path) -> None:
    """The skill of a recording at rest was -80321."""
    robot = with_camera(fake_robot())

    def still(bag: BagWriter, robot: RobotDescription, stamp_ns: int, _: np.ndarray) -> Iterable[object]:
        names = robot.groups[0].driver_names
        yield bag.joint_state("/joint_states", stamp_ns, names=names, positions=np.full(3, 1e-5))

    bag = write_bag(tmp_path / "bag", robot, still)
    outcome = go(bag, tmp_path / "report", robot, names=TopicNames(actions={"/joint_states": ()}))
    metrics = outcome.summary["metrics"]
    assert (metrics["skill"], metrics["repeat_skill"], metrics["moved"]) == (None, None, 0.0)
    assert "The robot is at rest in this recording" in outcome.page.read_text(encoding="utf-8")


def test_an_offset_between_command_and_state_is_no_skill_against_repeating_the_command(
    tmp_path: Path,
) -> None:
    """Standing still holds the measured state: any offset of the commands counted as skill."""
    robot = with_camera(fake_robot())

    def offset(
        bag: BagWriter, robot: RobotDescription, stamp_ns: int, positions: np.ndarray
    ) -> Iterable[object]:
        names = robot.groups[0].driver_names
        yield bag.joint_state("/joint_states", stamp_ns, names=names, positions=positions - 0.9)

    metrics = go(write_bag(tmp_path / "bag", robot, offset), tmp_path / "report", robot).summary["metrics"]
    assert metrics["hold_l1"] > metrics["repeat_l1"] + 0.1
    assert metrics["skill"] > metrics["repeat_skill"]


@pytest.mark.parametrize(
    ("values", "span"),
    [
        ([0.0, 0.3, 0.3, 0.0], (0.0, 0.3)),  # stopped by an object at a third of its travel
        ([0.50, 0.51, 0.50], (0.0, 1.0)),  # noise
        ([np.nan, np.nan], (0.0, 1.0)),
        ([np.nan, 0.2, 0.9], (0.2, 0.9)),
    ],
)
def test_a_gripper_opens_and_closes_within_the_span_that_it_was_recorded_in(
    values: list[float], span: tuple[float, float]
) -> None:
    assert recorded_span(np.array(values), 0.0, 1.0) == span
