# SPDX-License-Identifier: Apache-2.0
"""Names and units of joints in recordings: the policy's, or the driver's where they are unambiguous."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from wam.core.errors import RecordingError
from wam.data.bag.binding import Feed, Role
from wam.data.bag.commands import CommandSample
from wam.data.bag.gripper_actions import GRIPPER_FEEDBACK
from wam.robots.description import JointSpec, RobotDescription

HALF_OPENINGS = ("franka_gripper",)
"""Drivers whose joint is half the opening, while the feedback of GripperCommand is the whole one."""

Index = npt.NDArray[np.intp]
Row = npt.NDArray[np.float64]


def driver_aliases(robot: RobotDescription) -> dict[str, str]:
    """Return driver name -> policy-side name; driver names that several joints have are left out."""
    drivers = [joint.driver_name for joint in robot.joints]
    return {joint.driver_name: joint.name for joint in robot.joints if drivers.count(joint.driver_name) == 1}


class RecordedJoints:
    """Routes recorded positions to the policy's joints by name, in SI units, whatever messages and topics they are in.

    Names are looked up once per topic and list of names, since a recording repeats them in every message.

    Args:
        robot: whose recording it is.
        wanted: policy-side names of the joints that are read.
    """

    def __init__(self, robot: RobotDescription, *, wanted: tuple[str, ...]) -> None:
        self._robot = robot
        self._wanted = wanted
        self._halves = {
            joint.name for group in robot.groups if group.driver in HALF_OPENINGS for joint in group.joints
        }
        self._known: dict[tuple[str, tuple[str, ...], int], tuple[Index, Index, Row]] = {}

    def read(self, sample: CommandSample, feed: Feed) -> tuple[Index, Row]:
        """Return the positions of the wanted joints that a sample has.

        Args:
            sample: names of the policy or of the driver, or none; positions in the units of `feed`.
            feed: topic of the sample.

        Returns:
            intp [K], indices into the wanted joints, and float64 [K], their positions (rad or m). Both are empty where
            the sample has none of them, or not one position per name.

        Raises:
            RecordingError: the sample names no joints, and neither the feed nor the robot file tells whose it is.
        """
        key = (feed.topic, sample.names, len(sample.positions))
        if key not in self._known:
            self._known[key] = self._columns(sample, feed)
        index, columns, factors = self._known[key]
        return index, np.asarray(sample.positions, dtype=np.float64)[columns] * factors

    def _columns(self, sample: CommandSample, feed: Feed) -> tuple[Index, Index, Row]:
        """Return indices into the wanted joints and into the positions, and factors to SI units, all of one length."""
        width = len(sample.positions)
        names = sample.names or feed.joints
        if names:
            place = self._place(names, feed) if len(names) == width else {}
        else:
            place = {
                name: (column, factor) for column, (name, factor) in enumerate(self._in_order(width, feed))
            }
        found = [(i, *place[name]) for i, name in enumerate(self._wanted) if name in place]
        return (
            np.array([i for i, _, _ in found], dtype=np.intp),
            np.array([column for _, column, _ in found], dtype=np.intp),
            np.array([factor * self._share(i, feed) for i, _, factor in found]),
        )

    def _share(self, wanted: int, feed: Feed) -> float:
        """Return how much of a reported opening a wanted joint is."""
        return 0.5 if feed.msgtype == GRIPPER_FEEDBACK and self._wanted[wanted] in self._halves else 1.0

    def _place(self, names: Sequence[str], feed: Feed) -> dict[str, tuple[int, float]]:
        """Return policy-side name -> column and factor; what has the policy's names is in its units."""
        place = {name: (column, 1.0) for column, name in enumerate(names)}
        for joint, told in self._told(tuple(names), feed.streams):
            if told in names:
                place[joint.name] = names.index(told), _factor(joint, feed)
        return place

    def _told(self, names: tuple[str, ...], groups: Sequence[str]) -> Iterator[tuple[JointSpec, str]]:
        """Yield the joints with the name that a message has for them."""
        if not groups:
            aliases = driver_aliases(self._robot)
            joints = {joint.name: joint for joint in self._robot.joints}
            yield from ((joints[name], driver) for driver, name in aliases.items() if name not in names)
            return
        for group in self._robot.groups:
            if group.name in groups:
                told = names if names in group.spellings else group.driver_names
                yield from zip(group.joints, told, strict=True)

    def _in_order(self, width: int, feed: Feed) -> list[tuple[str, float]]:
        """Return the joints that an array is for, with their factors: those of the one group of this width."""
        groups = [group for group in self._robot.groups if not feed.streams or group.name in feed.streams]
        fitting = [group for group in groups if len(group.joints) == width]
        if len(fitting) != 1 and width == len(self._robot.joints):
            fitting = list(self._robot.groups)
        elif len(fitting) != 1:
            sizes = ", ".join(f"{group.name} {len(group.joints)}" for group in groups)
            raise RecordingError(
                f"messages of {feed.topic} ({feed.msgtype}) do not say whose positions they hold",
                value=f"{width} positions",
                allowed=f"as many as one joint group of robot {self._robot.name} has ({sizes}), "
                f"or {len(self._robot.joints)}",
                where=f"--action-topic {feed.topic}=JOINT,JOINT,...",
            )
        return [(joint.name, _factor(joint, feed)) for group in fitting for joint in group.joints]


def _factor(joint: JointSpec, feed: Feed) -> float:
    """Return what turns the driver's position of a joint into SI units."""
    return 1.0 / joint.conversion.command if feed.role is Role.ACTION else joint.conversion.state
