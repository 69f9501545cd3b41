# SPDX-License-Identifier: Apache-2.0
"""Judges where a stream of commands brings the links of a robot: contacts at fine resolution, and tool speed.

Builds its own model from the text of URDF and SRDF, with its own list of pairs; shares no code with the suite's
checker.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.bench.attack.robot_file import JudgedRobot

Vector = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float64]

MOVING_MARGIN = 0.01
"""Distance that two moving bodies have to keep: the suite's default [m]."""

FIXED_MARGIN = 0.0
"""Distance that a moving body has to keep of a fixed one: the suite's default [m]."""

SLACK = 0.0005
"""Depth within a margin that is still none: meshes are checked to a fraction of a millimetre [m]."""

STEPS = ((1e-3, 1), (4e-3, 2), (np.inf, 4))
"""Largest step of a joint between two commands -> states judged on the way, the command itself included."""


@dataclass(frozen=True, slots=True)
class Depth:
    """Two links that came too close.

    Attributes:
        row: number of the command.
        first: a link.
        second: the other.
        depth: distance within what had to be kept [m].
        distance: between the two [m]; negative inside each other.
    """

    row: int
    first: str
    second: str
    depth: float
    distance: float


class GeometryJudge:
    """Contacts and tool speed of a robot with a model. Not thread-safe.

    Args:
        robot: as the judge reads it; it has a model.

    Attributes:
        pairs: two links that are judged, and the distance that they have to keep [m].
    """

    def __init__(self, robot: JudgedRobot) -> None:
        import coal  # noqa: F401  (Pinocchio's collision functions need it)
        import pinocchio
        import xacro

        if robot.urdf is None:
            raise ValueError("the robot has no model")
        self._pin: Any = pinocchio
        text = str(xacro.process_file(str(robot.urdf), mappings=dict(robot.arguments)).toxml())
        self._model: Any = pinocchio.buildModelFromXML(text)
        self._data: Any = self._model.createData()
        self._geometry: Any = pinocchio.buildGeomFromUrdfString(
            self._model, text, pinocchio.GeometryType.COLLISION
        )
        self._robot = robot
        self.pairs: list[tuple[str, str, float]] = []
        self._add_pairs(_ignored(robot))
        self._results: Any = pinocchio.GeometryData(self._geometry)
        for request, (_, _, margin) in zip(self._results.collisionRequests, self.pairs, strict=True):
            request.security_margin = margin - SLACK
        driven = {one.model_joint for one in robot.couplings}
        couplings = [
            (self._model.getJointId(one.model_joint), one.column, one.ratio, one.offset)
            for one in robot.couplings
        ]
        by_joint = {one.model_joint: one for one in robot.couplings}
        for element in ElementTree.fromstring(text).iter("joint"):
            mimic = element.find("mimic")
            name = element.get("name", "")
            if mimic is None or name in driven or mimic.get("joint") not in by_joint:
                continue
            lead, factor = by_joint[mimic.get("joint", "")], float(mimic.get("multiplier", 1.0))
            offset = factor * lead.offset + float(mimic.get("offset", 0.0))
            couplings.append((self._model.getJointId(name), lead.column, factor * lead.ratio, offset))
        joints = [self._model.joints[joint] for joint, *_ in couplings]
        self._neutral: Vector = np.array(pinocchio.neutral(self._model))
        self._at = np.array([joint.idx_q for joint in joints], dtype=np.intp)
        # A joint without ends is a cosine and a sine.
        self._endless = np.array([joint.nq == 2 for joint in joints], dtype=bool)
        self._columns = np.array([column for _, column, _, _ in couplings], dtype=np.intp)
        self._ratios = np.array([ratio for _, _, ratio, _ in couplings])
        self._offsets = np.array([offset for _, _, _, offset in couplings])

    def touching(self, state: Vector) -> bool:
        """Return whether any pair is closer than its margin at `state`, float64 [N]."""
        q = self._configuration(state)
        return bool(
            self._pin.computeCollisions(self._model, self._data, self._geometry, self._results, q, True)
        )

    def distances(self, state: Vector, numbers: Sequence[int] | None = None) -> Vector:
        """Return the distances of pairs at `state`, float64 [P], in the order of `numbers` or of all pairs [m]."""
        q = self._configuration(state)
        self._pin.updateGeometryPlacements(self._model, self._data, self._geometry, self._results, q)
        measured = range(len(self.pairs)) if numbers is None else numbers
        return np.array(
            [
                self._pin.computeDistance(self._geometry, self._results, number).min_distance
                for number in measured
            ]
        )

    def deepest(self, commands: Rows) -> Depth | None:
        """Return the deepest contact on the way along `commands`, float64 [K, N], or None.

        A pair that begins within its margin may stay as close as it was, until it has once been apart.
        """
        margins = np.array([margin for _, _, margin in self.pairs])
        near = self.distances(commands[0])
        kept = np.where(near < margins, near, margins)
        held = bool((kept < margins).any())
        worst: Depth | None = None
        states, rows = between(commands)
        for state, row in zip(states, rows, strict=True):
            if not held and not self.touching(state):
                continue
            distances = self.distances(state)
            kept = np.where(distances > margins, margins, kept)
            depth = kept - distances
            at = int(depth.argmax())
            if depth[at] > SLACK and (worst is None or depth[at] > worst.depth):
                first, second, _ = self.pairs[at]
                worst = Depth(int(row), first, second, float(depth[at]), float(distances[at]))
            held = bool((kept < margins).any())
        return worst

    def tool_speeds(self, commands: Rows, *, period: float) -> dict[str, float]:
        """Return the highest speed of each tool along `commands`, float64 [K, N], `period` [s] apart [m/s]."""
        frames = {tip: self._model.getFrameId(tip) for tip in self._robot.tips}
        places: dict[str, list[Vector]] = {tip: [] for tip in frames}
        # A command like the one before leaves the tool where it was.
        changes = np.concatenate([[True], (commands[1:] != commands[:-1]).any(axis=1)])
        for state in commands[changes]:
            self._pin.framesForwardKinematics(self._model, self._data, self._configuration(state))
            for tip, frame in frames.items():
                places[tip].append(np.array(self._data.oMf[frame].translation))
        return {
            tip: float(np.linalg.norm(np.diff(np.array(at), axis=0), axis=1).max(initial=0.0)) / period
            for tip, at in places.items()
        }

    def _configuration(self, state: Vector) -> Vector:
        q, values = self._neutral.copy(), self._ratios * state[self._columns] + self._offsets
        q[self._at] = np.where(self._endless, np.cos(values), values)
        if self._endless.any():
            q[self._at[self._endless] + 1] = np.sin(values[self._endless])
        return q

    def _add_pairs(self, ignored: set[frozenset[str]]) -> None:
        bodies = list(self._geometry.geometryObjects)
        links = [str(self._model.frames[body.parentFrame].name) for body in bodies]
        self._geometry.removeAllCollisionPairs()
        for first in range(len(bodies)):
            for second in range(first + 1, len(bodies)):
                joints = {bodies[first].parentJoint, bodies[second].parentJoint}
                if len(joints) == 1 or frozenset((links[first], links[second])) in ignored:
                    continue
                self._geometry.addCollisionPair(self._pin.CollisionPair(first, second))
                margin = FIXED_MARGIN if 0 in joints else MOVING_MARGIN
                self.pairs.append((links[first], links[second], margin))


def between(commands: Rows) -> tuple[Rows, npt.NDArray[np.intp]]:
    """Return states on the way along `commands`, float64 [K, N], and the command that each one leads to."""
    states, rows = [commands[:1]], [np.zeros(1, dtype=np.intp)]
    for row in range(1, len(commands)):
        step = commands[row] - commands[row - 1]
        size = float(np.abs(step).max())
        if size <= 1e-9:
            continue
        points = next(count for largest, count in STEPS if size <= largest)
        shares = np.arange(1, points + 1)[:, None] / points
        states.append(commands[row - 1] + shares * step)
        rows.append(np.full(points, row, dtype=np.intp))
    return np.concatenate(states), np.concatenate(rows)


def _ignored(robot: JudgedRobot) -> set[frozenset[str]]:
    if robot.srdf is None:
        return set()
    root = ElementTree.fromstring(robot.srdf.read_text(encoding="utf-8"))
    return {
        frozenset((one.get("link1", ""), one.get("link2", ""))) for one in root.iter("disable_collisions")
    }
