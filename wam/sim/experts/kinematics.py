# SPDX-License-Identifier: Apache-2.0
"""Inverse kinematics by damped least squares (Pinocchio), within joint limits and near a posture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pinocchio

from wam.core.errors import WamError
from wam.robots.kinematics import RobotModel

Vector = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float64]
Pose = npt.NDArray[np.float64]

POSITION_TOLERANCE = 5e-4
"""[m]"""

ROTATION_TOLERANCE = 3e-3
"""[rad]"""

MAX_ITERATIONS = 150
DAMPING = 1e-6
DAMPING_PER_ERROR = 1e-2
"""Damping grows with the square of the error that is left: bold steps near the goal, careful ones far from it."""

MAX_STEP = 0.25
"""Largest change of a joint in one iteration [rad]."""

POSTURE_GAIN = 0.05
LIMIT_MARGIN = 0.02
"""Distance kept from the ends of a joint's range [rad]."""

RESTARTS = 8
RESTART_SPREAD = 0.6
"""Standard deviation of the starts that are tried after the first one fails [rad]."""

EVERYTHING = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
FREE_SPIN = (1.0, 1.0, 1.0, 1.0, 1.0, 0.0)
"""All but the turn about the tool's own z."""


class Unreachable(WamError):
    """The arm cannot reach a pose that the expert requires."""


@dataclass(frozen=True, slots=True)
class Solution:
    """Result of a search.

    Attributes:
        positions: of all joints of the robot, float64 [N].
        position_error: [m].
        rotation_error: [rad].
    """

    positions: Vector
    position_error: float
    rotation_error: float

    @property
    def found(self) -> bool:
        """Whether the pose is met."""
        return self.position_error < POSITION_TOLERANCE and self.rotation_error < ROTATION_TOLERANCE


class InverseKinematics:
    """Brings one link of a robot to poses in the world; moves the joints between its base and it. One thread.

    Args:
        model: kinematics of the robot.
        link: the tool's link.
        posture: float64 [N], where joints that the pose leaves free are drawn to; None for home.

    Raises:
        InputError: there is no such link.
    """

    def __init__(self, model: RobotModel, link: str, *, posture: Vector | None = None) -> None:
        robot = model.robot
        self._model, self.link = model, link
        self._pin: Any = model.pinocchio_model
        self._data: Any = self._pin.createData()
        self._frame = int(self._pin.getFrameId(link))
        chain = {joint.name for joint in model.chain(link)}
        self.columns = np.array([i for i, joint in enumerate(robot.joints) if joint.name in chain])
        limits = robot.limits()
        self._lower = limits.lower[self.columns] + LIMIT_MARGIN
        self._upper = limits.upper[self.columns] - LIMIT_MARGIN
        home = np.array([joint.home for joint in robot.joints])
        self._posture = (home if posture is None else posture)[self.columns]
        self._select = self._selection()

    def pose(self, positions: Vector) -> Pose:
        """Return where the link is in the world for positions of all joints, float64 [N]."""
        pose: Pose = self._placement(positions).homogeneous.copy()
        return pose

    def solve(
        self,
        target: Pose,
        start: Vector,
        *,
        weights: tuple[float, ...] = EVERYTHING,
        restarts: int = RESTARTS,
    ) -> Vector:
        """Return positions of all joints, float64 [N], with the link at `target`.

        Args:
            target: pose in the world, float64 [4, 4].
            start: where the search begins, float64 [N]; joints outside of the chain keep their positions.
            weights: of the errors along and about x, y and z of the target; 0 leaves one free.
            restarts: other starts that are tried, about the posture; the same at every call.

        Raises:
            Unreachable: no start led there; the text says how close the best one came.
        """
        best = self._search(target, start, weights)
        rng = np.random.default_rng(0)
        for _ in range(restarts):
            if best.found:
                break
            other = start.copy()
            spread = rng.normal(scale=RESTART_SPREAD, size=len(self.columns))
            other[self.columns] = np.clip(self._posture + spread, self._lower, self._upper)
            found = self._search(target, other, weights)
            if found.found or found.position_error < best.position_error:
                best = found
        if not best.found:
            at = ", ".join(f"{value:.3f}" for value in target[:3, 3])
            raise Unreachable(
                f"{self.link} cannot reach ({at}) m: {1e3 * best.position_error:.1f} mm and "
                f"{best.rotation_error:.3f} rad remain",
                where="the task's placement regions, or the expert's script",
            )
        return best.positions

    def line(self, poses: list[Pose], start: Vector, *, weights: tuple[float, ...] = EVERYTHING) -> Rows:
        """Return positions along poses that follow each other closely, float64 [len(poses), N].

        Raises:
            Unreachable: a pose cannot be met from the one before it without a jump.
        """
        rows = []
        for pose in poses:
            start = self.solve(pose, start, weights=weights, restarts=0)
            rows.append(start)
        return np.array(rows)

    def _search(self, target: Pose, start: Vector, weights: tuple[float, ...]) -> Solution:
        q, goal, mask = start.copy(), pinocchio.SE3(target), np.array(weights)
        q[self.columns] = np.clip(q[self.columns], self._lower, self._upper)
        errors = (np.inf, np.inf)
        for _ in range(MAX_ITERATIONS):
            away = mask * self._error(q, goal)
            errors = (float(np.linalg.norm(away[:3])), float(np.linalg.norm(away[3:])))
            if errors[0] < POSITION_TOLERANCE / 2 and errors[1] < ROTATION_TOLERANCE / 2:
                break
            q[self.columns] = self._improved(q, away, mask)
        return Solution(q, *errors)

    def _improved(self, q: Vector, away: Vector, mask: Vector) -> Vector:
        """Return the joints of the chain after one step; joints at a limit are left out of it."""
        jacobian = mask[:, None] * self._jacobian(q)
        here = q[self.columns]
        free = np.ones(len(here), dtype=bool)
        moved = here
        for _ in range(3):
            used = jacobian * free
            gram = used @ used.T + (DAMPING + DAMPING_PER_ERROR * float(away @ away)) * np.eye(6)
            pull = POSTURE_GAIN * (self._posture - here) * free
            # The posture acts only where the pose does not ask for anything.
            step = pull + used.T @ np.linalg.solve(gram, away - used @ pull)
            step *= min(1.0, MAX_STEP / max(float(np.abs(step).max()), 1e-12))
            moved = here + step
            over = ((moved > self._upper) | (moved < self._lower)) & free
            if not over.any():
                break
            free &= ~over
        clipped: Vector = np.clip(moved, self._lower, self._upper)
        return clipped

    def _error(self, q: Vector, goal: Any) -> Vector:
        """Return the way to the goal in the tool's frame: float64 [6], along and about its axes."""
        at = self._placement(q)
        to_goal = at.actInv(goal)
        return np.concatenate([to_goal.translation, pinocchio.log3(to_goal.rotation)])

    def _placement(self, positions: Vector) -> Any:
        pinocchio.forwardKinematics(self._pin, self._data, self._model.configuration(positions))
        return pinocchio.updateFramePlacement(self._pin, self._data, self._frame)

    def _jacobian(self, positions: Vector) -> Rows:
        q = self._model.configuration(positions)
        full = pinocchio.computeFrameJacobian(
            self._pin, self._data, q, self._frame, pinocchio.ReferenceFrame.LOCAL
        )
        selected: Rows = full @ self._select
        return selected

    def _selection(self) -> Rows:
        """Return what a joint of the robot does to the joints of the model, float64 [nv, len(columns)]."""
        home = np.array([joint.home for joint in self._model.robot.joints])
        base = self._model.configuration(home)
        result = np.zeros((self._pin.nv, len(self.columns)))
        for i, column in enumerate(self.columns):
            moved = home.copy()
            moved[column] += 1.0
            result[:, i] = pinocchio.difference(self._pin, base, self._model.configuration(moved))
        return result
