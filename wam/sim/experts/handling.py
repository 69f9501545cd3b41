# SPDX-License-Identifier: Apache-2.0
"""Goals for held objects: hand-overs, and objects that two hands carry."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wam.sim.experts.goals import Tool, Xyz, about_z, make_pose, rotation
from wam.sim.tasks.view import Pose, WorldView


def aimed(forward: Xyz, across: Xyz) -> Xyz:
    """Return roll, pitch, yaw of a tool by the directions of its axes.

    Args:
        forward: where its z points.
        across: where its y points, as far as that is square to `forward`: fingers close along it.

    Raises:
        ValueError: one is zero, or both are parallel.
    """
    z, y = np.array(forward, dtype=np.float64), np.array(across, dtype=np.float64)
    z = z / np.linalg.norm(z)
    y = y - (y @ z) * z
    if not np.linalg.norm(y) > 1e-6:
        raise ValueError(f"forward {forward} and across {across} are parallel")
    y /= np.linalg.norm(y)
    turned = np.stack([np.cross(y, z), y, z], axis=1)
    return (
        math.atan2(turned[2, 1], turned[2, 2]),
        -math.asin(float(np.clip(turned[2, 0], -1.0, 1.0))),
        math.atan2(turned[1, 0], turned[0, 0]),
    )


@dataclass(frozen=True, slots=True)
class OnItem:
    """A pose in the frame of an object, however the object is turned.

    Attributes:
        item: the object.
        offset: of the tool in the object's frame [m].
        rotation: roll, pitch, yaw of the tool in the object's frame [rad].
    """

    item: str
    offset: Xyz
    rotation: Xyz

    def pose(self, world: WorldView, tool: Tool) -> Pose:
        """Return the pose for where the object is now."""
        frame = world.object_pose(self.item)
        turned = frame[:3, :3] @ rotation(*self.rotation)
        return make_pose(frame[:3, :3] @ np.array(self.offset) + frame[:3, 3], turned)


@dataclass(frozen=True, slots=True)
class Backed:
    """The last pose, drawn back along the tool's own z.

    Attributes:
        distance: [m].
    """

    distance: float

    def pose(self, world: WorldView, tool: Tool) -> Pose:
        """Return the pose."""
        backed = tool.commanded.copy()
        backed[:3, 3] -= self.distance * backed[:3, 2]
        return backed


@dataclass(frozen=True, slots=True)
class Brought:
    """The pose that brings the centre of a held object to a point, with a rotation of the tool.

    What counts is where the object now is in the hand, however it was grasped.

    Attributes:
        item: the held object.
        offset: where its centre shall be [m]: in the frame of the target turned about the vertical alone, or in the
            world.
        rotation: roll, pitch, yaw of the tool in the same frame [rad].
        target: the object that both are relative to; None for the world.
    """

    item: str
    offset: Xyz
    rotation: Xyz
    target: str | None = None

    def pose(self, world: WorldView, tool: Tool) -> Pose:
        """Return the pose for where both are now."""
        at, turned = np.array(self.offset), rotation(*self.rotation)
        if self.target is not None:
            frame = world.object_pose(self.target)
            upright = about_z(math.atan2(frame[1, 0], frame[0, 0]))
            at, turned = frame[:3, 3] + upright @ at, upright @ turned
        hand = world.link_pose(tool.link)
        in_hand = hand[:3, :3].T @ (world.object_centre(self.item) - hand[:3, 3])
        return make_pose(at - turned @ in_hand, turned)


@dataclass(frozen=True, slots=True)
class Along:
    """The pose of one of several tools that carry an object to a place: all keep their poses against each other.

    Attributes:
        item: the object.
        target: the object whose frame counts; both frames are turned about the vertical alone.
        offset: where the frame of `item` shall be in that of `target` [m].
        yaw: how it shall be turned there [rad].
    """

    item: str
    target: str
    offset: Xyz
    yaw: float = 0.0

    def pose(self, world: WorldView, tool: Tool) -> Pose:
        """Return the pose for where both are now."""
        here, frame = _upright(world.object_pose(self.item)), _upright(world.object_pose(self.target))
        there = frame @ make_pose(np.array(self.offset), about_z(self.yaw))
        moved: Pose = there @ np.linalg.inv(here) @ tool.commanded
        return moved


def _upright(frame: Pose) -> Pose:
    return make_pose(frame[:3, 3], about_z(math.atan2(frame[1, 0], frame[0, 0])))
