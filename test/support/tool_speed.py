# SPDX-License-Identifier: Apache-2.0
"""How fast the tools of a robot are along commands: own reading of the robot file, own poses, own differences.

Shares no code with the safety chain. The points are those that docs/explanation/execution-and-safety.md promises: of
each joint group with a tip link that tip, the end of its tool (the corner farthest from the tip's joint of the bounding
boxes of the bodies that the tip's joint carries), and of a group of four joints or more the elbow: the joint between
base and tip that divides the length of the arm most evenly.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coal  # noqa: F401  (Pinocchio's bounding boxes need it)
import numpy as np
import numpy.typing as npt
import pinocchio as pin
import xacro
import yaml

from wam.bench.attack.robot_file import read_judged_robot

Rows = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]

ELBOW_JOINTS = 4
"""Joints of a group that has an elbow, at least."""


@dataclass(frozen=True, slots=True)
class Point:
    """A point that moves with a joint of the model.

    Attributes:
        name: the link at which it is, or "LINK (tool end)".
        joint: number of the joint in the Pinocchio model.
        offset: float64 [3], in the frame of that joint [m].
    """

    name: str
    joint: int
    offset: Rows


class ToolSpeedJudge:
    """Places and speeds of tips, tool ends and elbows.

    Args:
        file: a robot file with a model.
    """

    def __init__(self, file: Path) -> None:
        judged = read_judged_robot(file)
        assert judged.urdf is not None, f"{file} has no model"
        text = str(xacro.process_file(str(judged.urdf), mappings=dict(judged.arguments)).toxml())
        self._model: Any = pin.buildModelFromXML(text)
        self._data: Any = self._model.createData()
        self._bodies: Any = pin.buildGeomFromUrdfString(self._model, text, pin.GeometryType.COLLISION)
        self._driven = [
            (self._model.joints[self._model.getJointId(one.model_joint)], one) for one in judged.couplings
        ]
        self.names = judged.names
        self._groups: list[dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
        joints = [joint for group in self._groups for joint in group["joints"]]
        self.home = np.array([float(joint["home"]) for joint in joints])
        self._factors = np.array([_command_factor(joint) for joint in joints])
        self.points = tuple(self._found())
        group = next(one for one in self._groups if one.get("tip_link"))
        self.base: Any = self._model.frames[self._model.getFrameId(group["base_link"])].placement

    def positions(self, group: str, driver_positions: Sequence[Sequence[float]]) -> Rows:
        """Return rows of all joints, float64 [K, N], where one group is commanded and the others stand at home.

        Args:
            group: name of the joint group.
            driver_positions: [K][n], positions as the group's driver gets them, joints in the order of the robot file.
        """
        first = 0
        for one in self._groups:
            if one["name"] == group:
                break
            first += len(one["joints"])
        rows = np.array(driver_positions, dtype=np.float64)
        part = slice(first, first + rows.shape[1])
        whole = np.repeat(self.home[None], len(rows), axis=0)
        whole[:, part] = rows / self._factors[part]
        return whole

    def places(self, rows: Rows) -> Rows:
        """Return where the points are at `rows`, float64 [K, N], in the world, float64 [P, K, 3] [m]."""
        places = np.empty((len(self.points), len(rows), 3))
        for number, row in enumerate(rows):
            pin.forwardKinematics(self._model, self._data, self._configuration(row))
            for at, point in enumerate(self.points):
                pose = self._data.oMi[point.joint]
                places[at, number] = pose.rotation @ point.offset + pose.translation
        return places

    def speeds(self, rows: Rows, stamps_ns: Times) -> Rows:
        """Return the speed of every point from each command to the next, float64 [P, K - 1] [m/s].

        Args:
            rows: float64 [K, N], commands for all joints.
            stamps_ns: int64 [K], when each of them holds [ns], increasing: one that was lost leaves a longer step.
        """
        ways = np.linalg.norm(np.diff(self.places(rows), axis=1), axis=2)
        return np.asarray(ways / (np.diff(stamps_ns) * 1e-9))

    def fastest(self, rows: Rows, stamps_ns: Times) -> float:
        """Return the highest speed of any point [m/s]; arguments as of `speeds`."""
        return float(self.speeds(rows, stamps_ns).max(initial=0.0))

    def _configuration(self, row: Rows) -> Rows:
        q = pin.neutral(self._model)
        for joint, one in self._driven:
            value = one.ratio * row[one.column] + one.offset
            if joint.nq == 2:  # without ends: a cosine and a sine
                q[joint.idx_q : joint.idx_q + 2] = math.cos(value), math.sin(value)
            else:
                q[joint.idx_q] = value
        return np.asarray(q)

    def _found(self) -> list[Point]:
        pin.forwardKinematics(self._model, self._data, pin.neutral(self._model))
        found: list[Point] = []
        for group in self._groups:
            if not group.get("tip_link"):
                continue
            frame = self._model.frames[self._model.getFrameId(group["tip_link"])]
            tip = Point(frame.name, int(frame.parentJoint), np.array(frame.placement.translation))
            new = [tip, self._end(tip)]
            if len(group["joints"]) >= ELBOW_JOINTS:
                new.append(self._elbow(group["base_link"], tip))
            known = {(one.joint, *one.offset.tolist()) for one in (*found, *new[:2])}
            found += new[:2]
            found += [one for one in new[2:] if (one.joint, *one.offset.tolist()) not in known]
        return found

    def _end(self, tip: Point) -> Point:
        from_tip = self._data.oMi[tip.joint].inverse()
        corners = [tip.offset]
        for body in self._bodies.geometryObjects:
            if tip.joint not in self._chain(int(body.parentJoint)):
                continue
            body.geometry.computeLocalAABB()
            ends = np.array([body.geometry.aabb_local.min_, body.geometry.aabb_local.max_]).reshape(2, 3)
            pose = from_tip * self._data.oMi[body.parentJoint] * body.placement
            corners += [pose.act(np.array(corner)) for corner in itertools.product(*ends.T)]
        return Point(f"{tip.name} (tool end)", tip.joint, max(corners, key=lambda one: float(one @ one)))

    def _elbow(self, base: str, tip: Point) -> Point:
        fixed = self._chain(int(self._model.frames[self._model.getFrameId(base)].parentJoint))
        chain = [joint for joint in reversed(self._chain(tip.joint)) if joint not in fixed]
        origins = [np.array(self._data.oMi[joint].translation) for joint in chain]
        origins.append(self._data.oMi[tip.joint].act(tip.offset))
        lengths = [math.dist(one, other) for one, other in itertools.pairwise(origins)]
        evenness = [min(sum(lengths[:number]), sum(lengths[number:])) for number in range(len(chain))]
        joint = chain[max(range(len(chain)), key=evenness.__getitem__)]
        link = next(
            one.name
            for one in self._model.frames
            if one.parentJoint == joint and one.type is pin.FrameType.BODY
        )
        return Point(link, joint, np.zeros(3))

    def _chain(self, joint: int) -> list[int]:
        """Return `joint` and those that carry it, without the universe."""
        chain = []
        while joint:
            chain.append(joint)
            joint = int(self._model.parents[joint])
        return chain


def _command_factor(joint: dict[str, Any]) -> float:
    """Return how many of the driver's units a unit of the suite is in a command."""
    return float(joint.get("conversion", {}).get("command", 1.0))
