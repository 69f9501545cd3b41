# SPDX-License-Identifier: Apache-2.0
"""Driver joint messages to vectors in the order of the robot file, checked once at this border."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.errors import JointError
from wam.core.observation import Vector
from wam.robots.description import JointGroup, JointKind, JointSpec

PLAUSIBLE_FRACTION = 0.5
"""A measured position may exceed its limits by this fraction of the range; beyond it the unit must be wrong."""

MAX_LAYOUTS = 32
"""Distinct name lists remembered; a driver has one or two."""

Index = npt.NDArray[np.intp]

DEGREES = 0.017453
"""Radians in a degree, as a robot file would say it."""


def likely_unit(value: float, joint: JointSpec) -> str:
    """Return which unit a position is probably in that cannot be in the joint's own, and how to say so; "" for none.

    Args:
        value: the position.
        joint: whose limits it exceeds.
    """
    name, factor = ("degrees", DEGREES) if joint.kind is JointKind.REVOLUTE else ("millimetres", 0.001)
    if not joint.lower <= value * factor <= joint.upper:
        return ""
    return f"{name} are likely: the joint's entry in the robot file says so with conversion: {{state: {factor:g}}}"


class JointReader:
    """Reads sensor_msgs/JointState of one joint group. Used by one thread at a time.

    Args:
        group: whose messages; joints are found by their driver names, whatever their order, and others are ignored.
            A list of names that is one of `spellings` is that of another release of the driver.
    """

    def __init__(self, group: JointGroup) -> None:
        self._group = group
        self._layouts: dict[tuple[str, ...], tuple[Index, Index]] = {}
        lower = np.array([joint.lower for joint in group.joints])
        upper = np.array([joint.upper for joint in group.joints])
        margin = PLAUSIBLE_FRACTION * (upper - lower)
        self._factors = group.state_factors
        self._least, self._most = lower - margin, upper + margin

    def read(self, message: Any) -> tuple[Vector, Vector]:
        """Return positions and velocities, float64 [N] each, in the order of the group's joints, in SI units.

        The velocity array may be empty or shorter than the names (piper_ros sends six for seven joints): joints
        without one get NaN.

        Raises:
            JointError: names, widths or values do not fit, or joints are missing.
        """
        index, positions, velocities = self.read_part(message)
        self._require_all(message, index)
        return positions, velocities

    def read_part(self, message: Any) -> tuple[Index, Vector, Vector]:
        """Return what a message has of the group's joints, in SI units; nothing for one of other joints.

        Returns:
            intp [K], which of the group's joints they are, in order; positions and velocities, float64 [K] each.

        Raises:
            JointError: names, widths or values do not fit.
        """
        names, index, columns = self._where(message)
        if not len(index):
            return index, np.empty(0), np.empty(0)
        everything = np.asarray(message.position, dtype=np.float64)
        if everything.shape != (len(names),):
            raise self._error(
                "has another number of positions than names",
                f"{everything.size} positions",
                f"{len(names)} positions for {list(names)}",
            )
        factors = self._factors[index]
        positions = everything[columns] * factors
        self._require_plausible(positions, index)
        reported = np.asarray(message.velocity, dtype=np.float64)
        if reported.size > len(names):
            raise self._error(
                "has more velocities than names", f"{reported.size} velocities", f"at most {len(names)}"
            )
        velocities = np.full(len(names), np.nan)
        velocities[: reported.size] = reported
        velocities = velocities[columns] * factors
        if np.any(np.isinf(velocities)):
            at = int(np.argmax(np.isinf(velocities)))
            raise self._error(
                f"has an infinite velocity for {self._group.driver_names[index[at]]}",
                velocities[at],
                "finite numbers",
            )
        return index, positions, velocities

    def read_claim(self, message: Any) -> tuple[Index, Vector]:
        """Return what a message says of the group's joints, in SI units, however implausible, to compare publishers.

        Returns:
            intp [K], which of the group's joints they are, in order, and float64 [K], their positions; nothing where
            there is not one position per name.

        Raises:
            JointError: names do not fit.
        """
        names, index, columns = self._where(message)
        positions = np.asarray(message.position, dtype=np.float64)
        if positions.shape != (len(names),):
            return index[:0], positions[:0]
        return index, positions[columns] * self._factors[index]

    def read_efforts(self, message: Any) -> Vector:
        """Return what the driver reports as effort, float64 [N], in the order of the group's joints, in its own unit.

        A joint without a finite effort gets NaN, and so do all where there are more efforts than names: it is not known
        then whose they are.

        Raises:
            JointError: names do not fit, or joints are missing.
        """
        index, efforts = self.read_part_efforts(message)
        self._require_all(message, index)
        return efforts

    def read_part_efforts(self, message: Any) -> tuple[Index, Vector]:
        """Return which of the group's joints a message has, intp [K], and their efforts, float64 [K].

        Raises:
            JointError: names do not fit.
        """
        names, index, columns = self._where(message)
        reported = np.asarray(message.effort, dtype=np.float64)
        efforts = np.full(len(names), np.nan)
        if reported.size <= len(names):
            efforts[: reported.size] = reported
        efforts[~np.isfinite(efforts)] = np.nan
        return index, efforts[columns]

    def _where(self, message: Any) -> tuple[tuple[str, ...], Index, Index]:
        """Return the names of a message, which of the group's joints they are, and where among the names those are."""
        names = tuple(message.name)
        found = self._layouts.get(names)
        return (names, *(self._layout(names) if found is None else found))

    def _require_all(self, message: Any, index: Index) -> None:
        wanted = self._group.driver_names
        if len(index) < len(wanted):
            missing = [name for i, name in enumerate(wanted) if i not in index]
            raise self._error(f"lacks {', '.join(missing)}", list(message.name), f"all of {list(wanted)}")

    def _layout(self, names: tuple[str, ...]) -> tuple[Index, Index]:
        wanted = self._group.driver_names
        if names in self._group.spellings:
            wanted = names
        if len(set(names)) != len(names):
            repeated = sorted({name for name in names if names.count(name) > 1})
            raise self._error(f"repeats {', '.join(repeated)}", list(names), "every joint once")
        place = {name: i for i, name in enumerate(names)}
        found = [(i, place[name]) for i, name in enumerate(wanted) if name in place]
        layout = (
            np.array([i for i, _ in found], dtype=np.intp),
            np.array([column for _, column in found], dtype=np.intp),
        )
        if len(self._layouts) >= MAX_LAYOUTS:
            self._layouts.clear()
        self._layouts[names] = layout
        return layout

    def _require_plausible(self, positions: Vector, index: Index) -> None:
        least, most = self._least[index], self._most[index]
        # A comparison with NaN is false, so one mask finds NaN, infinities and wrong units.
        good = (positions >= least) & (positions <= most)
        if good.all():
            return
        at = int(np.argmin(good))
        joint = self._group.joints[index[at]]
        if not np.isfinite(positions[at]):
            raise self._error(
                f"has a non-finite position for {joint.driver_name}", positions[at], "finite numbers"
            )
        likely = likely_unit(positions[at], joint) if abs(self._factors[index[at]] - 1.0) < 0.01 else ""
        raise self._error(
            f"has an impossible position for {joint.driver_name} ({likely or 'another unit?'})",
            f"{positions[at]:g}",
            f"{least[at]:.4g} .. {most[at]:.4g} {joint.kind.unit} "
            f"(limits {joint.lower:g} .. {joint.upper:g} and a margin)",
        )

    def _error(self, problem: str, value: object, allowed: str) -> JointError:
        group = self._group
        return JointError(
            f"joint state of group {group.name!r} (topic {group.state_topic}) {problem}",
            value=value,
            allowed=allowed,
            where="the driver, or the group's joints in the robot file (config/robots)",
        )
