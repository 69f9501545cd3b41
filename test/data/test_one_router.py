# SPDX-License-Identifier: Apache-2.0
"""One router from messages to joints: what live nodes, replay and conversion make of any publishers is the same.

Publishers x groups x layouts x orders x duplicates: every joint is in the layout of one publisher at least, in any
order and message, beside joints of others; what it says is a function of time, so that duplicates agree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.core.errors import StaleObservation
from wam.data.bag.binding import Feed, Role
from wam.data.bag.commands import CommandReader, CommandSample
from wam.data.bag.joint_names import RecordedJoints
from wam.data.bag.joint_samples import JointSamples
from wam.data.bag.publisher_watch import PublisherWatch
from wam.data.bag.stamps import BagMessage
from wam.data.bag.topics import JOINT_STATE
from wam.data.fakes import fake_robot
from wam.robots.description import JointGroup, RobotDescription
from wam.robots.joint_mapping import Conversion
from wam.runtime.ingest.ingest import StreamIngest

T0 = 10**18
AGE_NS = 200 * NS_PER_MS
STRANGERS = ("wheel", "lift")


def value_of(joint: str, stamp_ns: int) -> float:
    """Return where a joint is at a time: slow, and different for each [rad]."""
    phase = sum(map(ord, joint)) % 7
    return 0.5 * float(np.sin((stamp_ns - T0) / NS_PER_S + phase))


@dataclass(frozen=True, slots=True)
class Said:
    """One message: its publisher's topic, its stamp, and the joints in it by driver name."""

    topic: str
    stamp_ns: int
    names: tuple[str, ...]


@st.composite
def recordings(draw: st.DrawFn) -> tuple[RobotDescription, list[Said]]:
    """A robot with groups that may share a topic and have units of their own, and what is said of it."""
    topics = draw(st.sampled_from((("a", "a"), ("a", "b"), ("a", "a", "b"), ("a", "a", "a"))))
    groups: list[JointGroup] = []
    (plain,) = fake_robot(joints=3).groups
    for number, topic in enumerate(topics):
        share = draw(st.sampled_from((1.0, 0.5, 2.0)))
        joints = tuple(
            replace(
                joint,
                name=f"g{number}j{i}",
                driver_name=f"g{number}d{i}",
                conversion=Conversion(state=share, command=1.0 / share),
            )
            for i, joint in enumerate(plain.joints[: draw(st.integers(1, 3))])
        )
        groups.append(
            replace(plain, name=f"g{number}", joints=joints, state_topic=topic, state_max_age_ns=AGE_NS)
        )
    robot = replace(fake_robot(), groups=tuple(groups), cameras=())
    publishers: list[tuple[str, tuple[str, ...]]] = []
    for topic in sorted(set(topics)):
        names = [n for group in groups if group.state_topic == topic for n in group.driver_names]
        order = draw(st.permutations(names))
        count = draw(st.integers(1, len(order)))
        parts = [list(order[i::count]) for i in range(count)]
        for part in parts:
            duplicates = draw(st.lists(st.sampled_from((*names, *STRANGERS)), max_size=3))
            layout = draw(st.permutations(sorted({*part, *duplicates})))
            publishers.append((topic, tuple(layout)))
        if draw(st.booleans()):
            publishers.append((topic, STRANGERS))
    turns = draw(st.lists(st.sampled_from(range(len(publishers))), min_size=3, max_size=25))
    steps = draw(st.lists(st.integers(0, 60), min_size=len(turns), max_size=len(turns)))
    stamps = np.cumsum(steps) * NS_PER_MS + T0
    return robot, [
        Said(publishers[turn][0], int(stamp), publishers[turn][1])
        for turn, stamp in zip(turns, stamps.tolist(), strict=True)
    ]


def message_of(robot: RobotDescription, said: Said, *, command: bool = False) -> Any:
    """Return the message in the units of the drivers."""
    joints = {joint.driver_name: joint for joint in robot.joints}
    positions = []
    for name in said.names:
        joint = joints.get(name)
        if joint is None:
            positions.append(9.0)
            continue
        value = value_of(joint.name, said.stamp_ns)
        positions.append(value * joint.conversion.command if command else value / joint.conversion.state)
    stamp = SimpleNamespace(sec=said.stamp_ns // NS_PER_S, nanosec=said.stamp_ns % NS_PER_S)
    header = SimpleNamespace(stamp=stamp)
    return SimpleNamespace(header=header, name=list(said.names), position=positions, velocity=[], effort=[])


def newest(robot: RobotDescription, sent: list[Said]) -> dict[str, int]:
    """Return joint -> stamp of the newest message that holds it [ns]."""
    place = {joint.driver_name: joint.name for joint in robot.joints}
    return {place[name]: said.stamp_ns for said in sent for name in said.names if name in place}


@given(recordings())
def test_the_live_state_is_the_newest_position_of_every_joint_within_its_age(
    drawn: tuple[RobotDescription, list[Said]],
) -> None:
    robot, sent = drawn
    ingest = StreamIngest(robot, cameras=())
    for said in sent:
        for group in robot.groups:
            if group.state_topic == said.topic:
                ingest.put_joint_state(group.name, message_of(robot, said))
    now_ns = sent[-1].stamp_ns
    told = newest(robot, sent)
    if any(now_ns - told.get(name, 0) > AGE_NS for name in robot.joint_names):
        # A group whose last whole state is young enough may still be answered for.
        try:
            state = ingest.robot_state(now_ns=now_ns)
        except StaleObservation:
            return
        assert set(told) == set(robot.joint_names)
        assert now_ns - state.stamp_ns <= AGE_NS
        return
    state = ingest.robot_state(now_ns=now_ns)
    expected = [value_of(name, told[name]) for name in robot.joint_names]
    np.testing.assert_allclose(state.positions, expected, atol=1e-12)


@pytest.mark.parametrize("role", [Role.JOINTS, Role.ACTION])
@given(drawn=recordings())
def test_replay_and_conversion_read_states_and_commands_alike(
    role: Role, drawn: tuple[RobotDescription, list[Said]]
) -> None:
    """What is read at the time of a message is what its publisher said of every joint; no publisher is suspected."""
    robot, sent = drawn
    joints = RecordedJoints(robot, wanted=robot.joint_names)
    samples = JointSamples(robot.joint_names, max_gap_ns=AGE_NS)
    watch = PublisherWatch(robot)
    readers = {said.topic: CommandReader(JOINT_STATE, step_ns=NS_PER_MS) for said in sent}
    groups = {
        topic: tuple(group.name for group in robot.groups if group.state_topic == topic) for topic in readers
    }
    for said in sent:
        content = message_of(robot, said, command=role is Role.ACTION)
        # One topic of commands may hold any joints; a topic of states feeds the groups that are on it.
        feed = Feed(said.topic, JOINT_STATE, role, groups[said.topic] if role is Role.JOINTS else ())
        message = BagMessage(said.topic, JOINT_STATE, said.stamp_ns, said.stamp_ns, said.stamp_ns, content)
        for sample in readers[said.topic].take(message):
            index, values = joints.read(sample, feed)
            named = [joint.name for joint in robot.joints if joint.driver_name in said.names]
            assert [robot.joint_names[i] for i in index] == named
            np.testing.assert_allclose(values, [value_of(name, said.stamp_ns) for name in named], atol=1e-12)
            if len(index):
                samples.add(said.topic, said.stamp_ns, index, values)
            watch.take(CommandSample(said.stamp_ns, sample.names, sample.positions), feed)
    told = newest(robot, sent)
    for name, stamp_ns in told.items():
        column = robot.joint_names.index(name)
        read = samples.at(np.array([stamp_ns]))[0, column]
        assert read == pytest.approx(value_of(name, stamp_ns), abs=1e-12)
    assert watch.warnings() == ()
