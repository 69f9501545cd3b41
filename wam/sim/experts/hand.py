# SPDX-License-Identifier: Apache-2.0
"""Grasps of an anthropomorphic hand: how far its drives close, and where its fingertips meet."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wam.sim.experts.goals import Tool, ToolGoal, Xyz, about_z, make_pose, rotation
from wam.sim.tasks.view import Pose, WorldView

Shares = tuple[float, ...]
"""How far each drive is closed, 0 open .. 1 closed, in the order of the effector's fingers."""


@dataclass(frozen=True, slots=True)
class Grasp:
    """An opposition of thumb and fingers.

    The frame of a grasp lies midway between the thumb's tip and the fingertips: z is the way in, x points from the
    thumb to the fingers, y is the tool's.

    Attributes:
        opened: shares before.
        closed: shares that press on the object.
        centre: origin of the grasp's frame in the tool's [m].
        tilt: turn of the grasp's frame about the tool's -y [rad]; a hand whose palm looks straight down has a
            quarter turn.
    """

    opened: Shares
    closed: Shares
    centre: Xyz
    tilt: float

    @property
    def frame(self) -> Pose:
        """The grasp's frame in the tool's, float64 [4, 4]."""
        return make_pose(np.array(self.centre), rotation(0.0, -self.tilt, 0.0))


@dataclass(frozen=True, slots=True)
class ByGrasp:
    """Brings the frame of a grasp, not the tool's, to a goal.

    Attributes:
        grasp: the grasp.
        goal: where its frame shall be.
    """

    grasp: Grasp
    goal: ToolGoal

    def pose(self, world: WorldView, tool: Tool) -> Pose:
        """Return the pose of the tool."""
        frame = self.grasp.frame
        wanted = self.goal.pose(world, Tool(tool.link, tool.commanded @ frame))
        return wanted @ np.linalg.inv(frame)


@dataclass(frozen=True, slots=True)
class Facing:
    """A pose over an object whose x is turned, among the equal turns of the object, next to a heading.

    Attributes:
        item: the object.
        heading: wanted turn of x against the line from the robot's base to the object, seen from above [rad].
        offset: from the object's frame, in its axes turned about the vertical alone [m].
        symmetry: equal turns of the object about the vertical.
        turn: of x against the object in the first of them [rad].
    """

    item: str
    heading: float
    offset: Xyz = (0.0, 0.0, 0.0)
    symmetry: int = 1
    turn: float = 0.0

    def pose(self, world: WorldView, tool: Tool) -> Pose:
        """Return the pose for where the object is now; z points down."""
        frame = world.object_pose(self.item)
        own = math.atan2(frame[1, 0], frame[0, 0])
        step = 2 * math.pi / self.symmetry
        wanted = azimuth(frame) + self.heading
        first = own + self.turn
        yaw = first + step * round((wanted - first) / step)
        position = frame[:3, 3] + about_z(own) @ np.array(self.offset)
        return make_pose(position, about_z(yaw) @ rotation(math.pi, 0.0, 0.0))


@dataclass(frozen=True, slots=True)
class Swung:
    """The pose that brings a held object over another one, the tool turned with the line from the robot's base.

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
        held, target = world.object_pose(self.item), world.object_pose(self.target)
        yaw = math.atan2(target[1, 0], target[0, 0])
        goal = target[:3, 3] + about_z(yaw) @ np.array(self.offset)
        turn = about_z(azimuth(target) - azimuth(held))
        in_hand = held[:3, 3] - world.link_pose(tool.link)[:3, 3]
        return make_pose(goal - turn @ in_hand, turn @ tool.commanded[:3, :3])


def azimuth(frame: Pose) -> float:
    """Return the direction from the robot's base, at the origin, to a frame [rad]."""
    return math.atan2(frame[1, 3], frame[0, 3])
