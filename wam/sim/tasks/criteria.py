# SPDX-License-Identifier: Apache-2.0
"""Criteria on a world, as data: each one holds at a moment or does not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from wam.sim.tasks.view import WorldView

RESTING_SPEED = 0.02
"""An object slower than this lies still [m/s]."""


class Criterion(Protocol):
    """Checks a moment."""

    def holds(self, world: WorldView) -> bool:
        """Return whether it holds now."""
        ...


def touching(world: WorldView, one: str, other: str) -> bool:
    """Return whether two things press on each other."""
    return world.contact_forces().get(frozenset((one, other)), 0.0) > 0.0


@dataclass(frozen=True, slots=True)
class All:
    """Every one of several criteria.

    Attributes:
        criteria: what must hold at once.
    """

    criteria: tuple[Criterion, ...]

    def holds(self, world: WorldView) -> bool:
        """Return whether all hold now."""
        return all(one.holds(world) for one in self.criteria)


@dataclass(frozen=True, slots=True)
class Held:
    """An object is held: each of the links touches it and none of the supports does.

    Attributes:
        item: the object.
        links: links that must touch it, one of each tuple at least: the fingers of a gripper.
        clear_of: objects and links that must not touch it.
    """

    item: str
    links: tuple[tuple[str, ...], ...]
    clear_of: tuple[str, ...] = ("table",)

    def holds(self, world: WorldView) -> bool:
        """Return whether it is held now."""
        forces = world.contact_forces()

        def touched(name: str) -> bool:
            return forces.get(frozenset((self.item, name)), 0.0) > 0.0

        return all(any(touched(link) for link in finger) for finger in self.links) and not any(
            touched(name) for name in self.clear_of
        )


@dataclass(frozen=True, slots=True)
class Free:
    """No link of the robot touches an object.

    Attributes:
        item: the object.
        links: the links that must not.
    """

    item: str
    links: tuple[str, ...]

    def holds(self, world: WorldView) -> bool:
        """Return whether none touches it now."""
        forces = world.contact_forces()
        return not any(frozenset((self.item, link)) in forces for link in self.links)


@dataclass(frozen=True, slots=True)
class AtRest:
    """Objects lie still.

    Attributes:
        items: the objects.
        speed: [m/s].
    """

    items: tuple[str, ...]
    speed: float = RESTING_SPEED

    def holds(self, world: WorldView) -> bool:
        """Return whether none moves now."""
        return all(world.object_speed(item) < self.speed for item in self.items)


@dataclass(frozen=True, slots=True)
class Above:
    """The centre of an object is over another one.

    Attributes:
        item: the object.
        target: what it must be over.
        radius: largest distance of the two centres, seen from above [m].
        low: least height over the target's foot [m].
        high: largest height [m].
    """

    item: str
    target: str
    radius: float
    low: float = 0.0
    high: float = math.inf

    def holds(self, world: WorldView) -> bool:
        """Return whether it is over it now."""
        away = world.object_centre(self.item) - world.object_pose(self.target)[:3, 3]
        return bool(np.hypot(away[0], away[1]) <= self.radius and self.low <= away[2] <= self.high)


@dataclass(frozen=True, slots=True)
class Inside:
    """The centre of an object is within a box in the frame of another one.

    Attributes:
        item: the object.
        target: whose frame.
        lower: corner [m].
        upper: opposite corner [m].
    """

    item: str
    target: str
    lower: tuple[float, float, float]
    upper: tuple[float, float, float]

    def holds(self, world: WorldView) -> bool:
        """Return whether it is inside now."""
        frame = world.object_pose(self.target)
        at = frame[:3, :3].T @ (world.object_centre(self.item) - frame[:3, 3])
        return bool(np.all(at >= self.lower) and np.all(at <= self.upper))


@dataclass(frozen=True, slots=True)
class LimbWithin:
    """The joint of a limb is within a range.

    Attributes:
        item: the object.
        limb: its limb.
        lower: [rad or m].
        upper: [rad or m].
    """

    item: str
    limb: str
    lower: float = -math.inf
    upper: float = math.inf

    def holds(self, world: WorldView) -> bool:
        """Return whether it is there now."""
        return self.lower <= world.limb_position(self.item, self.limb) <= self.upper


@dataclass(frozen=True, slots=True)
class Folded:
    """The last of several limbs that carry each other has turned far enough against the object.

    Attributes:
        item: the object.
        limbs: its limbs from the object outwards; their hinges are parallel.
        angle: least sum of their turns [rad].
    """

    item: str
    limbs: tuple[str, ...]
    angle: float

    def holds(self, world: WorldView) -> bool:
        """Return whether it is folded now."""
        return sum(world.limb_position(self.item, limb) for limb in self.limbs) >= self.angle


@dataclass(frozen=True, slots=True)
class Upright:
    """The vertical axis of an object has not tilted.

    Attributes:
        item: the object.
        tilt: largest angle from the vertical [rad].
    """

    item: str
    tilt: float = math.radians(20)

    def holds(self, world: WorldView) -> bool:
        """Return whether it stands now."""
        return bool(world.object_pose(self.item)[2, 2] >= math.cos(self.tilt))


@dataclass(frozen=True, slots=True)
class Level:
    """An axis of an object is level: a plate stands on its edge, wherever its pattern points.

    Attributes:
        item: the object.
        axis: in its frame, of length 1.
        tilt: largest angle from the horizontal [rad].
    """

    item: str
    axis: tuple[float, float, float] = (0.0, 1.0, 0.0)
    tilt: float = math.radians(20)

    def holds(self, world: WorldView) -> bool:
        """Return whether it is level now."""
        return bool(abs(world.object_pose(self.item)[2, :3] @ np.array(self.axis)) <= math.sin(self.tilt))
