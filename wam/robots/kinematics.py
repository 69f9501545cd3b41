# SPDX-License-Identifier: Apache-2.0
"""Kinematics of a robot's model (Pinocchio), in the joints that policies and drivers speak of."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.errors import ConfigError, InputError
from wam.core.extras import missing
from wam.core.observation import Vector
from wam.robots.description import JointSpec, RobotDescription
from wam.robots.joint_mapping import ModelJoint
from wam.robots.urdf import UrdfJoint, robot_urdf, urdf_joints
from wam.robots.yaml_reader import place_of

RANGE_TOLERANCE = 1e-3
"""By so much a limit of the robot file may leave that of the URDF: both are rounded [rad or m]."""

Rows = npt.NDArray[np.float64]

Pose = npt.NDArray[np.float64]
"""float64 [4, 4], homogeneous; lengths in m."""


class RobotModel:
    """A robot's kinematic model. Not thread-safe: it owns one Pinocchio data block.

    Args:
        robot: a robot with a model.

    Raises:
        ConfigError: the robot has no model, or names a joint that its URDF does not have.
        MissingDependency: Pinocchio or xacro is not installed.
    """

    def __init__(self, robot: RobotDescription) -> None:
        self._pin = _pinocchio()
        self.robot = robot
        self.urdf = robot_urdf(robot)
        self.joints = urdf_joints(self.urdf)
        self._model: Any = self._pin.buildModelFromXML(self.urdf)
        self._data: Any = self._model.createData()
        self._by_child = {joint.child: joint for joint in self.joints.values()}
        self._driven: dict[str, JointSpec] = {}
        self._couplings: list[tuple[int, int, float, float]] = []
        for column, spec in enumerate(robot.joints):
            for coupled in spec.model_joints:
                if coupled.name not in self.joints or not self.joints[coupled.name].moves:
                    moving = [joint.name for joint in self.joints.values() if joint.moves]
                    raise ConfigError(
                        f"{robot.source.name}: joint {spec.name} drives a joint that the URDF does not have",
                        value=coupled.name,
                        known=moving,
                        where=str(robot.source),
                    )
                self._require_range(spec, coupled)
                at = int(self._model.joints[self._model.getJointId(coupled.name)].idx_q)
                self._couplings.append((at, column, coupled.ratio, coupled.offset))
                self._driven[coupled.name] = spec
        self._require_links()
        self._neutral: Vector = self._pin.neutral(self._model)
        self._ratio = np.zeros((self._model.nq, len(robot.joints)))
        for at, column, ratio, offset in self._couplings:
            self._neutral[at] = offset
            self._ratio[at, column] = ratio

    @property
    def links(self) -> tuple[str, ...]:
        """Names of all links, the root first."""
        return (self.root, *(joint.child for joint in self.joints.values()))

    @property
    def root(self) -> str:
        """The link without a parent."""
        return next(joint.parent for joint in self.joints.values() if joint.parent not in self._by_child)

    @property
    def pinocchio_model(self) -> Any:
        """The `pinocchio.Model`, for collision checks and inverse kinematics."""
        return self._model

    @property
    def couplings(self) -> tuple[tuple[int, int, float, float], ...]:
        """What drives the model: index in its configuration, column of the robot's joint, ratio and offset."""
        return tuple(self._couplings)

    def configuration(self, positions: Vector) -> Vector:
        """Return the model's configuration, float64 [nq], for positions of all joints of the robot, float64 [N].

        Joints of the URDF that nothing drives stay at their neutral position.
        """
        if positions.shape != (len(self.robot.joints),):
            raise ValueError(f"positions has shape {positions.shape} for {len(self.robot.joints)} joints")
        q: Vector = self._ratio @ positions + self._neutral
        return q

    def configurations(self, rows: Rows) -> Rows:
        """Return the model's configurations, float64 [K, nq], for rows of all joints of the robot, float64 [K, N]."""
        q: Rows = rows @ self._ratio.T + self._neutral
        return q

    def pose(self, link: str, positions: Vector, *, base: str | None = None) -> Pose:
        """Return the pose of `link` in `base` (default: `default_base`) for positions of all joints, float64 [N].

        Raises:
            InputError: there is no such link.
        """
        base = self.default_base(link) if base is None else base
        frames = [self._frame(name) for name in (base, link)]
        self._pin.framesForwardKinematics(self._model, self._data, self.configuration(positions))
        in_world, of_link = (self._data.oMf[frame] for frame in frames)
        return np.array(in_world.actInv(of_link).homogeneous)

    def default_base(self, link: str) -> str:
        """Return the base link of the group that carries `link`, or the root.

        Raises:
            InputError: there is no such link.
        """
        self._frame(link)
        bases = {group.base_link for group in self.robot.groups}
        at: str | None = link
        while at is not None:
            if at in bases:
                return at
            joint = self._by_child.get(at)
            at = joint.parent if joint else None
        return self.root

    def chain(self, link: str, *, base: str | None = None) -> tuple[JointSpec, ...]:
        """Return the robot's joints that move `link` against `base`, from the base to the link.

        Raises:
            InputError: there is no such link, or `base` does not carry it.
        """
        base = self.default_base(link) if base is None else base
        self._frame(base)
        moving: list[UrdfJoint] = []
        at = link
        while at != base:
            joint = self._by_child.get(at)
            if joint is None:
                raise InputError(
                    f"{base} does not carry {link}",
                    allowed=f"one of the links between {self.root} and {link}",
                    where="the base link asked for",
                )
            moving.append(joint)
            at = joint.parent
        specs = [self._driven[joint.name] for joint in reversed(moving) if joint.name in self._driven]
        return tuple(dict.fromkeys(specs))

    def _require_range(self, spec: JointSpec, coupled: ModelJoint) -> None:
        """Check that the joint's range lies in that of the URDF: beyond it the model, or the coupling, is another's."""
        joint = self.joints[coupled.name]
        ends = [coupled.ratio * end + coupled.offset for end in (spec.lower, spec.upper)]
        if joint.kind != "continuous" and not (
            joint.lower - RANGE_TOLERANCE <= min(ends) and max(ends) <= joint.upper + RANGE_TOLERANCE
        ):
            group, at = next(
                (number, one.joints.index(spec))
                for number, one in enumerate(self.robot.groups)
                if spec in one.joints
            )
            place = place_of(self.robot.source, "groups", group, "joints", at)
            raise ConfigError(
                f"{place}: limits of joint {spec.name} leave those of {coupled.name} in the URDF",
                value=f"{min(ends):g} .. {max(ends):g}",
                allowed=f"within {joint.lower:g} .. {joint.upper:g}",
                where=f"{self.robot.source} (lower, upper, or `model` of the joint), or the URDF",
            )

    def _require_links(self) -> None:
        links = self.links
        for number, group in enumerate(self.robot.groups):
            for key, link in (("base_link", group.base_link), ("tip_link", group.tip_link)):
                if link and link not in links:
                    place = place_of(self.robot.source, "groups", number, key)
                    raise ConfigError(
                        f"{place}: groups[{number}].{key}: the URDF lacks a link of this name",
                        value=link,
                        known=links,
                        where=str(self.robot.source),
                    )

    def _frame(self, link: str) -> int:
        if link not in self.links:
            raise InputError(
                f"robot {self.robot.name} has no link of this name",
                value=link,
                known=self.links,
                where="the link asked for",
            )
        return int(self._model.getFrameId(link))


def forward_kinematics(
    robot: RobotDescription, tip: str, q: npt.ArrayLike, *, base: str | None = None
) -> Pose:
    """Return the pose of `tip` in `base`, float64 [4, 4].

    Args:
        robot: a robot with a model.
        tip: a link, e.g. "left_link6".
        q: positions [rad or m] of the joints between base and tip, in that order; or of all joints of the robot, in
            the order of its file.
        base: a link that carries `tip`; default the base link of the tip's joint group, else the root.

    Raises:
        InputError: there is no such link, or `q` has another width or is not finite.
        ConfigError: the robot has no model, or a faulty one.
        MissingDependency: Pinocchio or xacro is not installed.
    """
    model = RobotModel(robot)
    chain = model.chain(tip, base=base)
    given = np.atleast_1d(np.asarray(q, dtype=np.float64))
    everything = np.array([joint.home for joint in robot.joints])
    if given.shape == (len(chain),):
        column = {joint.name: i for i, joint in enumerate(robot.joints)}
        for joint, value in zip(chain, given, strict=True):
            everything[column[joint.name]] = value
    elif given.shape == everything.shape:
        everything = given
    else:
        raise InputError(
            f"q for {tip}",
            value=f"{given.size} values",
            allowed=f"{len(chain)} ({', '.join(joint.name for joint in chain)}) or all {everything.size} of the robot",
            where="the argument q",
        )
    if not np.all(np.isfinite(everything)):
        raise InputError(f"q for {tip} is not finite", value=given.tolist(), where="the argument q")
    return model.pose(tip, everything, base=base)


def _pinocchio() -> Any:
    try:
        import pinocchio
    except ModuleNotFoundError as error:
        if error.name != "pinocchio":
            raise
        raise missing("kinematics need Pinocchio", "pinocchio") from None
    return pinocchio
