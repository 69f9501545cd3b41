# SPDX-License-Identifier: Apache-2.0
"""Self, arm-arm and environment collision on the URDF's own collision geometry (Pinocchio and coal)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.errors import ConfigError
from wam.core.extras import missing
from wam.core.observation import Vector
from wam.core.safety.collision import Contact
from wam.robots.description import RobotDescription
from wam.robots.kinematics import RobotModel
from wam.robots.swept import ROUNDING, Sweep, Touch, place
from wam.robots.urdf import ignored_pairs

Rows = npt.NDArray[np.float64]

MARGIN = 0.01
"""Distance kept between two moving bodies [m]."""

ENVIRONMENT_MARGIN = 0.0
"""Distance kept between a moving body and a fixed one [m]: a gripper has to come close to the table."""

STATE_DEEPENING = 1e-4
"""A contact that holds at the first of some states may get this much closer by rounding [m]."""

DEEPENING = 3e-4
"""A contact that holds where the arm is seeded may get this much closer in all [m]: an arm that rests on something
trembles."""

SEPARATED = 5e-4
"""A pair has left a contact where it is by so much further apart than its margin [m]."""

EXACT = 1e-9
"""Two distances of one configuration differ by no more than this [m]."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two collision bodies of the model that can move against each other."""

    first: int
    second: int
    names: tuple[str, str]
    margin: float


class PinocchioChecker:
    """Checks every pair of bodies that can move against each other and that the SRDF does not tell to ignore.

    Not thread-safe: it owns one block of Pinocchio's data.

    Args:
        robot: a robot with a model whose links have collision geometry.
        margin: distance kept between two moving bodies [m].
        environment_margin: distance kept between a moving body and a fixed one [m].

    Raises:
        ConfigError: the robot has no model, or its model no collision geometry.
        MissingDependency: Pinocchio, coal or xacro is not installed.
    """

    name = "pinocchio"

    def __init__(
        self,
        robot: RobotDescription,
        *,
        margin: float = MARGIN,
        environment_margin: float = ENVIRONMENT_MARGIN,
    ) -> None:
        self.model = RobotModel(robot)
        self._pin = _pinocchio()
        self._kinematic: Any = self.model.pinocchio_model
        self._data: Any = self._kinematic.createData()
        pin = self._pin
        self._geometry: Any = pin.buildGeomFromUrdfString(
            self._kinematic, self.model.urdf, pin.GeometryType.COLLISION
        )
        if self._geometry.ngeoms == 0:
            raise ConfigError(
                f"the model of {robot.name} has no collision geometry",
                allowed="<collision> elements in its links",
                where=str(robot.urdf),
            )
        self.pairs = self._pairs(robot, margin, environment_margin)
        self._geometry.removeAllCollisionPairs()
        for pair in self.pairs:
            self._geometry.addCollisionPair(pin.CollisionPair(pair.first, pair.second))
        self._results: Any = pin.GeometryData(self._geometry)
        for request, pair in zip(self._results.collisionRequests, self.pairs, strict=True):
            request.security_margin = pair.margin
        self.sweep = Sweep(pin, self.model, self._geometry)
        self.margins = np.array([pair.margin for pair in self.pairs])
        self._baseline = np.full(len(self.pairs), np.inf)

    @property
    def bodies(self) -> tuple[str, ...]:
        """Names of the collision bodies."""
        return tuple(str(body.name) for body in self._geometry.geometryObjects)

    @property
    def pinocchio(self) -> tuple[Any, Any, Any]:
        """The module, its `Model` and its `GeometryModel` with the pairs that are checked."""
        return self._pin, self._kinematic, self._geometry

    def colliding(self, state: Vector) -> bool:
        """Return whether any pair is closer than its margin at `state`, float64 [N]."""
        q = self.model.configuration(state)
        return bool(
            self._pin.computeCollisions(self._kinematic, self._data, self._geometry, self._results, q, True)
        )

    def check(self, states: Rows) -> Contact | None:
        """Return the first contact among `states`, float64 [S, N], or None; see `CollisionChecker.check`."""
        for index, state in enumerate(states):
            if not self.colliding(state):
                continue
            contact = self._new_contact(index, states[0], state)
            if contact is not None:
                return contact
        return None

    def rebase(self, state: Vector) -> None:
        """Note that the arm stands at `state`, float64 [N]; see `CollisionChecker.rebase`."""
        distances = self.sweep.distances(state)
        self._baseline = np.where(distances <= self.margins + ROUNDING, distances, np.inf)

    def note(self, state: Vector) -> None:
        """Note that the arm has come to `state`, float64 [N]; see `CollisionChecker.note`."""
        held = np.flatnonzero(np.isfinite(self._baseline))
        if len(held):
            apart = self.sweep.distances(state, held.tolist()) > self.margins[held] + SEPARATED
            self._baseline[held[apart]] = np.inf

    def check_path(self, rows: Rows, *, separating: bool = False) -> Contact | None:
        """Return the first contact along `rows`, float64 [K, N], or None; see `CollisionChecker.check_path`."""
        if len(rows) < 2:
            return None
        start = self.sweep.distances(rows[0])
        # A pair that has separated keeps its margin, whether or not that was noted.
        held = np.isfinite(self._baseline) & ~(start > self.margins + SEPARATED) & (not separating)
        floors = np.where(held, np.minimum(self.margins, self._baseline - DEEPENING), self.margins)
        near = start - floors <= SEPARATED
        touch: Touch | None = None
        for number in np.flatnonzero(near).tolist():
            one = None
            if start[number] <= floors[number] or self.sweep.first(rows, floors, np.array([number])):
                rising = separating and start[number] <= floors[number]
                one = self._leaving(rows, number, start[number], floors, rising=rising)
            if one is not None:
                touch, rows = one, rows[: max(int(np.ceil(one.at)) + 1, 2)]
        # What lies beyond a place at which the motion is refused needs no check.
        touch = self.sweep.first(rows, floors, np.flatnonzero(~near)) or touch
        for number in np.flatnonzero(held).tolist() if touch is None else ():
            touch = touch or self._again(rows, number)
        if touch is None:
            return None
        names = self.pairs[touch.number].names
        floor = float((self.margins if touch.distance > floors[touch.number] else floors)[touch.number])
        return Contact(int(np.ceil(touch.at)), *names, touch.distance, floor)

    def distance(self, state: Vector, number: int) -> float:
        """Return the distance of pair `number` at `state`, float64 [N] [m]; negative inside each other."""
        return float(self.sweep.distances(state, [number])[0])

    def _leaving(
        self, rows: Rows, number: int, start: float, floors: Vector, *, rising: bool
    ) -> Touch | None:
        """Return where a pair that begins in contact comes closer than it was, or touches again after it has left."""
        # The allowance for rounding ends at the floor, or it would add up over many motions.
        allowed = min(start - EXACT, max(start - ROUNDING, float(floors[number]) - ROUNDING))
        upper = float(floors[number]) + SEPARATED
        left = self.sweep.leave(rows, number, lower=allowed, upper=upper, rising=rising)
        if isinstance(left, Touch):
            return left
        return self._beyond(rows, left, number, floors)

    def _again(self, rows: Rows, number: int) -> Touch | None:
        """Return where a pair that has left the contact of its baseline comes within its margin again."""
        left = self.sweep.parted(rows, number, beyond=float(self.margins[number]) + SEPARATED)
        return None if left is None else self._beyond(rows, left, number, self.margins)

    def _beyond(self, rows: Rows, left: float, number: int, floors: Vector) -> Touch | None:
        """Return where a pair comes closer than its floor after the place `left`."""
        if left >= len(rows) - 1:
            return None
        rest = np.concatenate((place(rows, left)[None], rows[int(left) + 1 :]))
        touch = self.sweep.first(rest, floors, np.array([number]))
        return None if touch is None else replace(touch, at=touch.at + int(left))

    def _new_contact(self, index: int, start: Vector, state: Vector) -> Contact | None:
        """Return the deepest contact at `state` that is new against `start`, or deeper than there."""
        deepest: Contact | None = None
        for number, pair in enumerate(self.pairs):
            distance = self.distance(state, number)
            if distance > pair.margin:
                continue
            before = self.distance(start, number)
            if before <= pair.margin and (index == 0 or distance >= before - STATE_DEEPENING):
                continue
            if deepest is None or distance - pair.margin < deepest.distance - deepest.margin:
                deepest = Contact(index, *pair.names, distance, pair.margin)
        return deepest

    def _pairs(self, robot: RobotDescription, margin: float, environment_margin: float) -> tuple[_Pair, ...]:
        bodies = self._geometry.geometryObjects
        ignored = ignored_pairs(robot)
        links = [str(self._kinematic.frames[body.parentFrame].name) for body in bodies]
        pairs = []
        for second in range(len(bodies)):
            for first in range(second):
                joints = (bodies[first].parentJoint, bodies[second].parentJoint)
                names = (links[first], links[second])
                # Bodies on one joint never move against each other.
                if joints[0] == joints[1] or frozenset(names) in ignored:
                    continue
                fixed = 0 in joints
                pairs.append(_Pair(first, second, names, environment_margin if fixed else margin))
        return tuple(pairs)


@dataclass(frozen=True, slots=True)
class ModelJoints:
    """The joints of a robot's URDF as a linear function of the joints of its drivers.

    Attributes:
        names: joints of the URDF.
        ratio: float64 [M, N].
        offset: float64 [M] [rad or m].
    """

    names: tuple[str, ...]
    ratio: Rows
    offset: Vector

    def positions(self, states: Rows) -> Rows:
        """Return the positions of the URDF's joints, float64 [S, M], for states of all joints, float64 [S, N]."""
        result: Rows = states @ self.ratio.T + self.offset
        return result


def model_joints(robot: RobotDescription) -> ModelJoints:
    """Return how the joints of the URDF follow those of the drivers.

    Raises:
        ConfigError: no joint of the robot drives one of a URDF.
    """
    rows = [(coupled, column) for column, joint in enumerate(robot.joints) for coupled in joint.model_joints]
    if not rows:
        raise ConfigError(f"no joint of {robot.name} drives a joint of a URDF", where=str(robot.source))
    ratio = np.zeros((len(rows), len(robot.joints)))
    for row, (coupled, column) in enumerate(rows):
        ratio[row, column] = coupled.ratio
    return ModelJoints(
        tuple(coupled.name for coupled, _ in rows), ratio, np.array([coupled.offset for coupled, _ in rows])
    )


def _pinocchio() -> Any:
    try:
        import coal  # noqa: F401  (Pinocchio's collision functions need it)
        import pinocchio
    except ModuleNotFoundError as error:
        if error.name not in ("pinocchio", "coal"):
            raise
        raise missing("collision checks need Pinocchio with coal", "coal") from None
    return pinocchio
