# SPDX-License-Identifier: Apache-2.0
"""The robot of a replay for a 3D view: its URDF, how its joints moved, and where chunks would have led its tips."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wam.evaluation.replay.viewer_sink import Points, RobotPose, Strips, Times, Values
from wam.robots.description import JointSpec, RobotDescription
from wam.robots.kinematics import RobotModel

Rows = npt.NDArray[np.float64]

RECORDED, COMMANDED = "recorded", "commanded"
GHOST = "0.96 0.45 0.09 0.45"
"""Colour of the commanded robot: red, green, blue and opacity, 0 to 1, as a URDF writes them."""

FAN = 8
"""Chunks that are seen at a time: the newest strong, older ones faint."""

FAN_COLOUR = (37, 99, 235)


class TipChunk(Protocol):
    """What is needed of a chunk."""

    @property
    def ready_ns(self) -> int:
        """When it was out [ns]."""

    @property
    def rows(self) -> Rows:
        """Joints of the action, float64 [K, N]."""


class ViewedRobot:
    """A robot with a model, for a viewer.

    Args:
        robot: its description.
        action_joints: joints of the policy, in the order of its rows.

    Raises:
        ConfigError: the model is faulty.
        MissingDependency: Pinocchio or xacro is not installed.
    """

    def __init__(self, robot: RobotDescription, action_joints: Sequence[str]) -> None:
        self._robot = robot
        self._model = RobotModel(robot)
        self._columns = np.array([robot.joint_names.index(name) for name in action_joints], dtype=np.intp)
        self._home = np.array([joint.home for joint in robot.joints])
        assert robot.urdf is not None
        self._folder = robot.urdf.parent

    def recorded(self, times_ns: Times, positions: Rows) -> RobotPose:
        """Return the robot as it moved.

        Args:
            times_ns: int64 [T] [ns].
            positions: float64 [T, N], all joints of the robot; NaN takes the home position.
        """
        return self._pose(RECORDED, viewer_urdf(self._model.urdf, self._folder), times_ns, positions, "")

    def commanded(self, times_ns: Times, rows: Rows) -> RobotPose:
        """Return a translucent robot as it would have been told to move.

        Args:
            times_ns: int64 [T] [ns].
            rows: float64 [T, M], joints of the action; the others stay at home.
        """
        positions = np.tile(self._home, (len(rows), 1))
        positions[:, self._columns] = rows
        urdf = viewer_urdf(self._model.urdf, self._folder, colour=GHOST)
        return self._pose(COMMANDED, urdf, times_ns, positions, RECORDED)

    def fans(
        self, chunks: Sequence[TipChunk], times_ns: Times, positions: Rows
    ) -> dict[str, tuple[Strips, ...]]:
        """Return, for every tip of a joint group, the way that each chunk would have led it.

        Args:
            chunks: in order of time.
            times_ns: int64 [T], of the measured positions [ns].
            positions: float64 [T, N], all joints of the robot; they stand for joints that are not the policy's.
        """
        tips = dict.fromkeys(group.tip_link for group in self._robot.groups if group.tip_link)
        ways = {tip: [self.way(tip, chunk, times_ns, positions) for chunk in chunks] for tip in tips}
        return {
            tip: tuple(fan(chunks[: i + 1], lines[: i + 1]) for i in range(len(chunks)))
            for tip, lines in ways.items()
        }

    def way(self, tip: str, chunk: TipChunk, times_ns: Times, positions: Rows) -> Points:
        """Return the way that a chunk would have led a tip, float64 [K, 3] [m]; see `fans`."""
        measured = self._home
        if len(times_ns):
            latest = positions[max(0, int(np.searchsorted(times_ns, chunk.ready_ns, side="right")) - 1)]
            measured = np.where(np.isfinite(latest), latest, self._home)
        points = np.empty((len(chunk.rows), 3))
        for i, row in enumerate(chunk.rows):
            everything = measured.copy()
            everything[self._columns] = row
            points[i] = self._model.pose(tip, everything, base=self._model.root)[:3, 3]
        return points

    def _pose(self, name: str, urdf: str, times_ns: Times, positions: Rows, stands_on: str) -> RobotPose:
        known = np.where(np.isfinite(positions), positions, self._home)
        return RobotPose(name, urdf, model_joints(self._robot.joints, known), times_ns, stands_on)


def fan(chunks: Sequence[TipChunk], lines: Sequence[Points]) -> Strips:
    """Return the newest ways as lines that stand from the newest chunk on; older ones are fainter."""
    shown = tuple(lines[-FAN:])
    colours = tuple((*FAN_COLOUR, round(255 * (i + 1) / len(shown))) for i in range(len(shown)))
    return Strips(chunks[-1].ready_ns, shown, colours)


def model_joints(joints: Sequence[JointSpec], positions: Rows) -> dict[str, Values]:
    """Return the positions of the URDF's joints, float64 [T] each.

    Args:
        joints: of the robot, one per column.
        positions: float64 [T, N] [rad, m or 1].
    """
    return {
        coupled.name: positions[:, column] * coupled.ratio + coupled.offset
        for column, spec in enumerate(joints)
        for coupled in spec.model_joints
    }


def viewer_urdf(urdf: str, folder: Path, *, colour: str = "") -> str:
    """Return a URDF for a viewer: shapes to look at alone, meshes by absolute path.

    Args:
        urdf: the robot.
        folder: that relative mesh paths start from; package:// stays, since ROS_PACKAGE_PATH tells where it is.
        colour: of every shape, "red green blue opacity"; "" keeps theirs.
    """
    root = ElementTree.fromstring(urdf)
    for link in root.iter("link"):
        for collision in link.findall("collision"):
            link.remove(collision)
        for visual in link.findall("visual") if colour else ():
            for material in visual.findall("material"):
                visual.remove(material)
            material = ElementTree.SubElement(visual, "material", name="ghost")
            ElementTree.SubElement(material, "color", rgba=colour)
    for mesh in root.iter("mesh"):
        name = mesh.get("filename", "")
        if name and "://" not in name and not Path(name).is_absolute():
            mesh.set("filename", str((folder / name).resolve()))
    return ElementTree.tostring(root, encoding="unicode")
