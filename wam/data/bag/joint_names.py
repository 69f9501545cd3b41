# SPDX-License-Identifier: Apache-2.0
"""Names and units of joints in recordings: the policy's, or the driver's where they are unambiguous."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from wam.data.bag.binding import Feed, Role
from wam.data.bag.commands import CommandSample
from wam.robots.description import RobotDescription

Index = npt.NDArray[np.intp]
Row = npt.NDArray[np.float64]


def driver_aliases(robot: RobotDescription, *, group: str = "") -> dict[str, str]:
    """Return driver name -> policy-side name.

    Args:
        robot: whose joints.
        group: take this joint group alone; within one, driver names are unique. "" takes all groups and leaves out
            driver names that several joints have.
    """
    joints = [joint for g in robot.groups if group in ("", g.name) for joint in g.joints]
    drivers = [joint.driver_name for joint in joints]
    return {joint.driver_name: joint.name for joint in joints if drivers.count(joint.driver_name) == 1}


class RecordedJoints:
    """Translates recorded positions into SI units and the order of the policy's joints.

    Names are looked up once per topic and list of names, since a recording repeats them in every message.

    Args:
        robot: whose recording it is.
        wanted: policy-side names of the joints that are read.
    """

    def __init__(self, robot: RobotDescription, *, wanted: tuple[str, ...]) -> None:
        self._robot = robot
        self._wanted = wanted
        self._known: dict[tuple[str, tuple[str, ...]], tuple[Index, Index, Row]] = {}

    def read(self, sample: CommandSample, feed: Feed) -> tuple[Index, Row]:
        """Return the positions of the wanted joints that a sample has.

        Args:
            sample: names of the policy or of the driver; positions in the units of `feed`.
            feed: topic of the sample.

        Returns:
            intp [K], indices into the wanted joints, and float64 [K], their positions (rad or m). Both are empty where
            the sample has none of them, or not one position per name.
        """
        if len(sample.positions) != len(sample.names):
            return np.empty(0, dtype=np.intp), np.empty(0)
        key = (feed.topic, sample.names)
        if key not in self._known:
            names = self._driver_names(sample.names, feed.stream)
            index, columns = self._columns(names, group=feed.stream)
            commanded = feed.role is Role.ACTION
            self._known[key] = index, columns, self._factors(names, feed.stream, commanded)[columns]
        index, columns, factors = self._known[key]
        return index, np.asarray(sample.positions, dtype=np.float64)[columns] * factors

    def _driver_names(self, names: tuple[str, ...], group: str) -> tuple[str, ...]:
        """Return the robot file's driver names for those of another release of the driver, other names as they are."""
        if group and names in (one := self._robot.group(group)).spellings:
            return one.driver_names
        return names

    def _columns(self, names: Sequence[str], *, group: str) -> tuple[Index, Index]:
        """Return indices into the wanted joints and, of the same length, indices into `names`."""
        aliases = driver_aliases(self._robot, group=group)
        place = {aliases.get(name, name): column for column, name in enumerate(names)}
        found = [i for i, name in enumerate(self._wanted) if name in place]
        return (
            np.array(found, dtype=np.intp),
            np.array([place[self._wanted[i]] for i in found], dtype=np.intp),
        )

    def _factors(self, names: Sequence[str], group: str, commanded: bool) -> Row:
        """Return the factors to SI units; without a group the message is in the policy's names and units."""
        if not group:
            return np.ones(len(names))
        joints = {joint.driver_name: joint.conversion for joint in self._robot.group(group).joints}
        factors = {name: 1.0 / one.command if commanded else one.state for name, one in joints.items()}
        return np.array([factors.get(name, 1.0) for name in names])
