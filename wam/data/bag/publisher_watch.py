# SPDX-License-Identifier: Apache-2.0
"""Two publishers that send the same joints of one topic: a recording does not say who sent a message, but values do.

A joint that jumps and comes back within a moment, again and again, is sent by two nodes that disagree: a forgotten
`joint_state_publisher` with its zeros, or two teleoperation scripts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.data.bag.binding import Feed
from wam.data.bag.commands import CommandSample
from wam.data.bag.joint_names import RecordedJoints
from wam.robots.description import RobotDescription

JUMP = 0.05
"""Share of its range by which a joint must jump, and return from, to be counted."""

RETURN_NS = NS_PER_S // 2
"""Time within which it must be back [ns]."""

LEAST = 5
"""Jumps of a joint that are told."""

Row = npt.NDArray[np.float64]


class PublisherWatch:
    """Watches the joint states and commands of a recording for publishers that disagree.

    Args:
        robot: whose recording it is.
    """

    def __init__(self, robot: RobotDescription) -> None:
        self._robot = robot
        self._joints = RecordedJoints(robot, wanted=robot.joint_names)
        self._least = JUMP * np.array([joint.upper - joint.lower for joint in robot.joints])
        self._topics: dict[str, _Topic] = {}

    def take(self, sample: CommandSample, feed: Feed) -> None:
        """Take one sample of a topic, in order of time.

        Raises:
            RecordingError: it names no joints, and nothing tells whose it is.
        """
        index, values = self._joints.read(sample, feed)
        if not len(index):
            return
        topic = self._topics.get(feed.topic)
        if topic is None:
            topic = self._topics[feed.topic] = _Topic(len(self._least))
        topic.take(sample.time_ns, index, values, self._least)

    def warnings(self) -> tuple[str, ...]:
        """Return one sentence for each topic on which publishers disagree, with a joint and both its values."""
        lines = []
        for name, topic in self._topics.items():
            if topic.jumps.max() < LEAST:
                continue
            worst = int(topic.jumps.argmax())
            one, other = topic.examples[worst]
            joint = self._robot.joint_names[worst]
            lines.append(
                f"two publishers seem to send the same joints on {name} and to disagree: {joint} jumps between "
                f"{one:.3g} and {other:.3g} and back {topic.jumps[worst]} times"
            )
        return tuple(lines)


class _Topic:
    """The last two values of every joint of a topic, and how often the one in between stood out."""

    def __init__(self, joints: int) -> None:
        self._values = np.full((2, joints), np.nan)
        self._times = np.zeros((2, joints), dtype=np.int64)
        self.jumps = np.zeros(joints, dtype=np.int64)
        self.examples = np.zeros((joints, 2))

    def take(self, time_ns: int, index: npt.NDArray[np.intp], values: Row, least: Row) -> None:
        before, last = self._values[0, index], self._values[1, index]
        out = least[index]
        # Comparisons with NaN, of joints without two values, are false.
        jumped = np.abs(last - before) > out
        if jumped.any():
            jumped &= np.abs(last - values) > out
            back = (np.abs(values - before) < out / 2) & (time_ns - self._times[0, index] < RETURN_NS)
            for at in np.flatnonzero(jumped & back):
                self.jumps[index[at]] += 1
                self.examples[index[at]] = last[at], values[at]
        self._values[0, index], self._values[1, index] = last, values
        self._times[0, index], self._times[1, index] = self._times[1, index], time_ns
