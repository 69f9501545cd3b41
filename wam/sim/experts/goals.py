# SPDX-License-Identifier: Apache-2.0
"""Goals of an expert's tool, as data: poses that are computed from the world when a move begins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wam.sim.tasks.view import Pose, WorldView

DOWN = (math.pi, 0.0, 0.0)
"""Roll, pitch, yaw of a tool whose z points down and whose x points forward."""

Xyz = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Tool:
    """Where a tool is when a move begins.

    Attributes:
        link: its link.
        commanded: where the last move brought it, float64 [4, 4].
    """

    link: str
    commanded: Pose


class ToolGoal(Protocol):
    """A pose of a tool in the world."""

    def pose(self, world: WorldView, tool: Tool) -> Pose:
        """Return the pose, float64 [4, 4]."""
        ...


@dataclass(frozen=True, slots=True)
class AtItem:
    """A pose beside an object, in its frame turned about the vertical alone.

    Attributes:
        item: the object.
        offset: of the tool from the object's frame [m].
        rotation: roll, pitch, yaw of the tool against the object [rad].
        symmetry: equal turns of the object and the tool about the vertical; the one that turns the tool least is
            taken.
    """

    item: str
    offset: Xyz = (0.0, 0.0, 0.0)
    rotation: Xyz = DOWN
    symmetry: int = 1

    def pose(self, world: WorldView, tool: Tool) -> Pose:
        """Return the pose for where the object is now."""
        frame = world.object_pose(self.item)
        yaw = math.atan2(frame[1, 0], frame[0, 0])
        position = frame[:3, 3] + about_z(yaw) @ np.array(self.offset)
        choices = [
            about_z(yaw + 2 * math.pi * turn / self.symmetry) @ rotation(*self.rotation)
            for turn in range(self.symmetry)
        ]
        nearest = max(choices, key=lambda one: float(np.trace(one.T @ tool.commanded[:3, :3])))
        return make_pose(position, nearest)


@dataclass(frozen=True, slots=True)
class InWorld:
    """A pose in the world.

    Attributes:
        position: [m].
        rotation: roll, pitch, yaw [rad]; None keeps the tool's.
    """

    position: Xyz
    rotation: Xyz | None = DOWN

    def pose(self, world: WorldView, tool: Tool) -> Pose:
        """Return the pose."""
        turned = tool.commanded[:3, :3] if self.rotation is None else rotation(*self.rotation)
        return make_pose(np.array(self.position), turned)


@dataclass(frozen=True, slots=True)
class Shifted:
    """The last pose, moved in the world's axes.

    Attributes:
        offset: [m].
        height: height of the tool over z = 0 afterwards [m]; None takes it from `offset`.
    """

    offset: Xyz = (0.0, 0.0, 0.0)
    height: float | None = None

    def pose(self, world: WorldView, tool: Tool) -> Pose:
        """Return the pose."""
        moved = tool.commanded.copy()
        moved[:3, 3] += self.offset
        if self.height is not None:
            moved[2, 3] = self.height
        return moved


@dataclass(frozen=True, slots=True)
class Carried:
    """The pose that brings a held object over or into another one, the tool's rotation kept.

    What counts is where the object now is in the hand, however it was grasped.

    Attributes:
        item: the held object.
        target: where to.
        offset: of the object's frame from the target's, in the target's axes turned about the vertical alone [m].
    """

    item: str
    target: str
    offset: Xyz = (0.0, 0.0, 0.0)

    def pose(self, world: WorldView, tool: Tool) -> Pose:
        """Return the pose for where both are now."""
        frame = world.object_pose(self.target)
        yaw = math.atan2(frame[1, 0], frame[0, 0])
        goal = frame[:3, 3] + about_z(yaw) @ np.array(self.offset)
        in_hand = world.object_pose(self.item)[:3, 3] - world.link_pose(tool.link)[:3, 3]
        return make_pose(goal - in_hand, tool.commanded[:3, :3])


def make_pose(position: npt.NDArray[np.float64], turned: npt.NDArray[np.float64]) -> Pose:
    """Return a homogeneous matrix, float64 [4, 4]."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turned, position
    return pose


def about_z(yaw: float) -> npt.NDArray[np.float64]:
    """Return the turn about the vertical, float64 [3, 3]."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def rotation(roll: float, pitch: float, yaw: float) -> npt.NDArray[np.float64]:
    """Return the turn by roll, pitch and yaw about fixed axes, float64 [3, 3]."""
    (cr, sr), (cp, sp) = ((math.cos(angle), math.sin(angle)) for angle in (roll, pitch))
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cr, -sr], [0.0, sr, cr]])
    about_y = np.array([[cp, 0.0, sp], [0.0, 1.0, 0.0], [-sp, 0.0, cp]])
    turn: npt.NDArray[np.float64] = about_z(yaw) @ about_y @ about_x
    return turn
