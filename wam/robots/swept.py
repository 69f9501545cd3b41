# SPDX-License-Identifier: Apache-2.0
"""Distances of pairs of bodies along a whole motion: proven at every point of it, from samples and a bound.

No point of a body moves against another body by more than the sum over the joints between the two of joint motion
times reach, the largest distance from the joint's axis to the body in any configuration. A pair whose distance at a
sample exceeds its floor by more than the bound of the motion around that sample keeps its floor on all of that part;
where it does not, the part is halved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.observation import Vector
from wam.core.turns import pause
from wam.robots.kinematics import RobotModel

Rows = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.intp]

RESOLUTION = 1e-4
"""A part of a motion over which bodies move by less than this is not halved again [m]."""

ROUNDING = 2e-6
"""Accuracy of a computed distance [m]."""

MAX_SAMPLES = 6000
"""Distances computed at most for one motion; a motion that needs more skims a body and is refused."""

LEAVING_STEP = 2e-4
"""A pair that leaves a contact is sampled each time its bodies have moved by this [m]."""

PARTING_STEP = 5e-4
"""A pair that may have come apart is sampled each time its bodies have moved by this [m]."""

SETTLING = 2e-5
"""Bodies that come apart may come closer again by this: distances inside each other are computed no better [m]."""

MAX_LEAVING_SAMPLES = 1000
"""Samples at most of a pair that leaves a contact; a motion on which it has not left by then is refused."""

PRISMATIC_SLACK = 0.01
"""By so much a prismatic joint may leave its range without making a reach too small [m]."""


@dataclass(frozen=True, slots=True)
class Touch:
    """Where a pair first fails to keep its floor along a motion.

    Attributes:
        at: place in the motion, in rows.
        number: of the pair.
        distance: what is certain to be kept around there [m].
    """

    at: float
    number: int
    distance: float


class Reaches:
    """Largest distance from the axis of a joint to points that it carries, over all configurations.

    `axes` holds the axis of every joint that is driven, in its own frame, and whether it rotates.

    Args:
        model: kinematics of the robot.
    """

    def __init__(self, model: RobotModel) -> None:
        self._model: Any = model.pinocchio_model
        self._columns = len(model.robot.joints)
        self._ratios: dict[int, list[tuple[int, float]]] = {}
        self._travel: dict[int, float] = {}
        at_q = {int(joint.idx_q): number for number, joint in enumerate(self._model.joints) if number}
        for at, column, ratio, offset in model.couplings:
            spec, joint = model.robot.joints[column], at_q[at]
            self._ratios.setdefault(joint, []).append((column, abs(ratio)))
            ends = (ratio * spec.lower + offset, ratio * spec.upper + offset)
            self._travel[joint] = max(abs(end) for end in ends) + PRISMATIC_SLACK
        self.axes = {joint: self._axis(joint) for joint in self._ratios}

    def supports(self, joint: int) -> frozenset[int]:
        """Return the joints that carry what is fixed to `joint`, itself included."""
        return frozenset(int(one) for one in self._model.supports[joint]) - {0}

    def weights(
        self, joint: int, points: Rows, *, against: int = 0, known: dict[int, float] | None = None
    ) -> Vector:
        """Return by how much points fixed to `joint` move at most per unit of each joint of the robot, float64 [N].

        Args:
            joint: number in the Pinocchio model.
            points: float64 [n, 3], in the frame of the joint; a body is inside the hull of its points [m].
            against: joint that carries what the points move against; 0 is the world.
            known: for these points, distance from the axis of each joint that was looked at; extended.
        """
        known = {} if known is None else known
        result = np.zeros(self._columns)
        for one in self.supports(joint) - self.supports(against):
            for column, ratio in self._ratios.get(one, ()):
                if one not in known:
                    known[one] = self._reach(one, joint, points)
                result[column] += ratio * known[one]
        return result

    def turns(self, joint: int) -> Vector:
        """Return by how much what is fixed to `joint` turns at most per unit of each joint, float64 [N]."""
        result = np.zeros(self._columns)
        for one in self.supports(joint):
            for column, ratio in self._ratios.get(one, ()):
                result[column] += ratio if self.axes[one][1] else 0.0
        return result

    def _reach(self, joint: int, last: int, points: Rows) -> float:
        axis, rotates = self.axes[joint]
        if not rotates:
            return 1.0
        if joint == last:
            return _far(points, axis)
        chain = [last]
        while self._model.parents[chain[-1]] != joint:
            chain.append(int(self._model.parents[chain[-1]]))
        total = float(np.linalg.norm(points, axis=1).max())
        for link in chain[:-1]:
            total += float(np.linalg.norm(self._origins(link), axis=1).max())
        return total + _far(self._origins(chain[-1]), axis)

    def _origins(self, joint: int) -> Rows:
        """Return points in whose hull the origin of `joint` always is, in the frame of its parent."""
        placement = self._model.jointPlacements[joint]
        origin = np.array(placement.translation)
        axis, rotates = self.axes.get(joint, (np.zeros(3), True))
        if rotates:
            return origin[None]
        shift = placement.rotation @ axis * self._travel[joint]
        return np.stack((origin - shift, origin + shift))

    def _axis(self, joint: int) -> tuple[Vector, bool]:
        """Return the axis of a joint with one degree of freedom, and whether it rotates."""
        model = self._model.joints[joint]
        data = model.createData()
        model.calc(data, self._neutral(model))
        subspace = np.asarray(data.S, dtype=np.float64).reshape(6, -1)[:, 0]
        rotates = bool(np.any(subspace[3:]))
        axis = np.array(subspace[3:] if rotates else subspace[:3])
        return axis / np.linalg.norm(axis), rotates

    def _neutral(self, model: Any) -> Vector:
        # A joint takes its own part out of the whole configuration.
        q = np.zeros(self._model.nq)
        if model.nq == 2:  # a continuous joint is given by cosine and sine
            q[model.idx_q] = 1.0
        return q


class Sweep:
    """Distances of the pairs of a geometry model along motions. Not thread-safe: it owns a block of Pinocchio's data.

    Args:
        pin: the module.
        model: kinematics of the robot.
        geometry: `pinocchio.GeometryModel` with the pairs.
    """

    def __init__(self, pin: Any, model: RobotModel, geometry: Any) -> None:
        self._pin = pin
        self._model = model
        self._kinematic: Any = model.pinocchio_model
        self._data: Any = self._kinematic.createData()
        self._geometry = geometry
        self._state: Any = pin.GeometryData(geometry)
        # Looking a result up costs as much as the distance itself.
        self._results = [
            self._state.distanceResults[number] for number in range(len(self._state.distanceResults))
        ]
        self.weights = pair_weights(model, geometry)

    @property
    def pairs(self) -> int:
        """Number of pairs."""
        return len(self._results)

    def distances(self, state: Vector, numbers: Sequence[int] | None = None) -> Vector:
        """Return the distances of pairs at `state`, float64 [N], in the order of `numbers` or of all pairs [m]."""
        self._place(self._model.configuration(state))
        return np.array(self._measure(numbers))

    def first(self, rows: Rows, floors: Vector, numbers: Numbers | None = None) -> Touch | None:
        """Return where along `rows` a pair first comes closer than its floor, or None if none ever does.

        Args:
            rows: float64 [K, N], K > 1; positions of all joints; the motion is linear between two rows.
            floors: float64 [P], distance that each pair keeps [m].
            numbers: the pairs to look at; default all.
        """
        configurations = self._model.configurations(rows)
        moved = np.cumsum(np.abs(np.diff(rows, axis=0)), axis=0) @ self.weights.T
        moved = np.concatenate((np.zeros((1, self.pairs)), moved))
        floors = floors + ROUNDING
        pair = np.arange(self.pairs) if numbers is None else numbers
        low, high = np.zeros(len(pair)), np.full(len(pair), float(len(rows) - 1))
        found: Touch | None = None
        left = MAX_SAMPLES
        while len(pair):
            middle = _middle(low, high)
            distance = self._sample(configurations, middle, pair)
            left -= len(pair)
            before, at, after = (_interpolate(moved, where, pair) for where in (low, middle, high))
            bound = np.maximum(at - before, after - at)
            slack = distance - floors[pair]
            open_ = ~(slack > bound)  # also where a distance is not a number
            failed = open_ & (~(slack > 0.0) | (bound <= RESOLUTION) | (left < 0))
            if failed.any():
                one = int(np.argmin(np.where(failed, middle, np.inf)))
                if found is None or middle[one] < found.at:
                    kept = distance[one] - (bound[one] if slack[one] > 0.0 else 0.0)
                    found = Touch(float(middle[one]), int(pair[one]), float(kept))
            # Before a place that failed there may be an earlier one; what lies after the earliest does not matter.
            end = np.inf if found is None else found.at
            ahead = open_ & (low < end) & (~failed | (bound > RESOLUTION)) & (left >= 0)
            behind = open_ & ~failed & (middle < end)
            low, high = (
                np.concatenate((low[ahead], middle[behind])),
                np.concatenate((middle[ahead], high[behind])),
            )
            pair = np.concatenate((pair[ahead], pair[behind]))
        return found

    def leave(
        self, rows: Rows, number: int, *, lower: float, upper: float, rising: bool = False
    ) -> float | Touch:
        """Return the place along `rows`, in rows, at which a pair has come apart by `upper`, or the end.

        The pair is sampled where its bodies have moved by what it has gained, at least by `LEAVING_STEP`.

        Args:
            rows: float64 [K, N], K > 1; positions of all joints.
            number: of the pair.
            lower: distance that it keeps until then [m].
            upper: distance at which it has left [m].
            rising: it never comes closer again than it has been, but for `SETTLING`.

        Returns:
            The place, or where the pair comes closer than `lower`.
        """
        configurations = self._model.configurations(rows)
        steps = np.abs(np.diff(rows, axis=0)) @ self.weights[number]
        moved = np.concatenate(([0.0], np.cumsum(steps)))
        # A motion ends where its bodies come to rest; rows after that repeat the last place.
        travelled, last, at = 0.0, float(len(rows) - 1), 0.0
        for left in reversed(range(MAX_LEAVING_SAMPLES)):
            self._place(place(configurations, at))
            distance = self._measure([number])[0]
            if not distance >= lower:
                break
            if distance > upper:
                return at
            if travelled >= moved[-1]:
                return last
            if rising:
                lower = max(lower, distance - SETTLING)
            if not left:
                break
            travelled = min(travelled + max(distance - lower, LEAVING_STEP), moved[-1])
            at = float(np.interp(travelled, moved, np.arange(len(moved))))
        return Touch(at, number, distance)

    def parted(self, rows: Rows, number: int, *, beyond: float) -> float | None:
        """Return the place along `rows`, in rows, by which a pair has come apart further than `beyond`, or None.

        Where that cannot be told with `MAX_LEAVING_SAMPLES` samples, the place where they end.

        Args:
            rows: float64 [K, N], K > 1; positions of all joints.
            number: of the pair.
            beyond: distance [m].
        """
        configurations = self._model.configurations(rows)
        steps = np.abs(np.diff(rows, axis=0)) @ self.weights[number]
        moved = np.concatenate(([0.0], np.cumsum(steps)))
        travelled, at = 0.0, 0.0
        for left in reversed(range(MAX_LEAVING_SAMPLES)):
            self._place(place(configurations, at))
            distance = self._measure([number])[0]
            if not distance <= beyond or not left:
                return at
            if travelled >= moved[-1]:
                return None
            # Bodies that move by less than is missing have not come apart.
            travelled = min(travelled + max(beyond - distance, PARTING_STEP), moved[-1])
            at = float(np.interp(travelled, moved, np.arange(len(moved))))
        return at

    def _sample(self, configurations: Rows, where: Vector, pair: Numbers) -> Vector:
        places, which = np.unique(where, return_inverse=True)
        order = np.argsort(which, kind="stable")
        starts = np.searchsorted(which[order], np.arange(len(places) + 1))
        result = np.empty(len(pair))
        states = _between(configurations, places)
        for number, state in enumerate(states):
            pause()
            items = order[starts[number] : starts[number + 1]]
            self._place(state)
            result[items] = self._measure(None if len(items) == self.pairs else pair[items].tolist())
        return result

    def _place(self, configuration: Vector) -> None:
        self._pin.updateGeometryPlacements(
            self._kinematic, self._data, self._geometry, self._state, configuration
        )

    def _measure(self, numbers: Sequence[int] | None) -> list[float]:
        if numbers is None:
            self._pin.computeDistances(self._geometry, self._state)
            return [one.min_distance for one in self._results]
        measure, geometry, state = self._pin.computeDistance, self._geometry, self._state
        return [measure(geometry, state, number).min_distance for number in numbers]


def place(rows: Rows, at: float) -> Vector:
    """Return the state at place `at`, in rows, of `rows`, float64 [K, M], K > 1; the motion is linear between two."""
    index = min(int(at), len(rows) - 2)
    share = at - index
    result: Vector = rows[index] * (1.0 - share) + rows[index + 1] * share
    return result


def pair_weights(model: RobotModel, geometry: Any) -> Rows:
    """Return by how much the bodies of each pair move against each other at most per unit of joint, float64 [P, N].

    Args:
        model: kinematics of the robot.
        geometry: `pinocchio.GeometryModel` with the pairs.
    """
    reaches = Reaches(model)
    bodies = geometry.geometryObjects
    corners = [body_corners(body) for body in bodies]
    known: list[dict[int, float]] = [{} for _ in bodies]  # a body is in many pairs
    result = np.zeros((len(geometry.collisionPairs), len(model.robot.joints)))
    for number, pair in enumerate(geometry.collisionPairs):
        for one, other in ((pair.first, pair.second), (pair.second, pair.first)):
            result[number] += reaches.weights(
                bodies[one].parentJoint,
                corners[one],
                against=bodies[other].parentJoint,
                known=known[one],
            )
    return result


def body_corners(body: Any) -> Rows:
    """Return the corners of the body's bounding box, float64 [8, 3], in the frame of the joint that carries it."""
    body.geometry.computeLocalAABB()
    box = body.geometry.aabb_local
    ends = np.stack((np.array(box.min_).ravel(), np.array(box.max_).ravel()))
    corners = np.stack([ends[[i, j, k], [0, 1, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    result: Rows = corners @ body.placement.rotation.T + body.placement.translation
    return result


def _far(points: Rows, axis: Vector) -> float:
    """Return the largest distance of points from an axis through the origin."""
    return float(np.linalg.norm(np.cross(points, axis), axis=1).max())


def _middle(low: Vector, high: Vector) -> Vector:
    """Return the places halfway; whole rows while there are some in between, since several pairs share those."""
    middle: Vector = 0.5 * (low + high)
    return np.where(high - low > 1.0, np.floor(middle), middle)


def _between(values: Rows, places: Vector) -> Rows:
    """Return rows of `values`, float64 [K, M], at fractional places, float64 [n, M]."""
    index = np.minimum(places.astype(np.intp), len(values) - 2)
    share = (places - index)[:, None]
    result: Rows = values[index] * (1.0 - share) + values[index + 1] * share
    return result


def _interpolate(values: Rows, places: Vector, columns: Numbers) -> Vector:
    """Return one value of `values`, float64 [K, P], per place and column."""
    index = np.minimum(places.astype(np.intp), len(values) - 2)
    share = places - index
    result: Vector = values[index, columns] * (1.0 - share) + values[index + 1, columns] * share
    return result
