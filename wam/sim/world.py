# SPDX-License-Identifier: Apache-2.0
"""A robot and its surroundings in MuJoCo: targets in, measured joints and snapshots out. Deterministic from a seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np
import numpy.typing as npt

from wam.core.errors import WamError
from wam.robots.description import JointGroup, RobotDescription
from wam.sim.model import TIMESTEP_S, actuator_name, build_model
from wam.sim.scene import Scene, tabletop

Vector = npt.NDArray[np.float64]


class WorldDiverged(WamError):
    """The physics produced values that are not finite; the world must be reset."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Joints of one group, in the driver's order and SI units: float64 [N] each.

    Attributes:
        positions: [rad or m].
        velocities: [rad/s or m/s].
        efforts: [N m or N].
    """

    positions: Vector
    velocities: Vector
    efforts: Vector


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a camera needs of one moment, independent of the running world.

    Attributes:
        stamp_ns: wall time of the moment [ns], as the caller gave it.
        qpos: generalised positions, float64 [nq]; read-only.
    """

    stamp_ns: int
    qpos: Vector


class _GroupMap:
    """Where a joint group lives in the model: one row per model joint."""

    def __init__(self, model: mujoco.MjModel, number: int, group: JointGroup) -> None:
        rows = [
            (column, coupled) for column, joint in enumerate(group.joints) for coupled in joint.model_joints
        ]
        joints = [model.joint(coupled.name) for _, coupled in rows]
        self.width = len(group.joints)
        self.column = np.array([column for column, _ in rows])
        self.ratio = np.array([coupled.ratio for _, coupled in rows])
        self.offset = np.array([coupled.offset for _, coupled in rows])
        self.qpos = np.array([joint.qposadr[0] for joint in joints])
        self.dof = np.array([joint.dofadr[0] for joint in joints])
        self.actuator = np.array([model.actuator(actuator_name(coupled.name)).id for _, coupled in rows])
        self.force = np.abs(model.actuator_forcerange[self.actuator, 1]).copy()
        self.damping_time = (
            -model.actuator_biasprm[self.actuator, 2] / model.actuator_gainprm[self.actuator, 0]
        )
        self.bit = 1 << (number + 1)
        self.count = np.bincount(self.column, minlength=self.width)
        self.bodies = _carried(model, {int(joint.bodyid[0]) for joint in joints})

    def mean(self, values: Vector) -> Vector:
        """Return the mean over the model joints of each driver joint, float64 [N]."""
        return np.bincount(self.column, weights=values, minlength=self.width) / self.count


class SimWorld:
    """A simulated robot. One thread at a time.

    Args:
        robot: a robot with a model and servos.
        seed: of everything random (placements).
        scene: objects and room; None takes the table top.
        timestep: length of one physics step [s].

    Raises:
        ConfigError: the robot cannot be simulated; the text says why.
        MissingDependency: xacro is not installed.
    """

    def __init__(
        self,
        robot: RobotDescription,
        *,
        seed: int = 0,
        scene: Scene | None = None,
        timestep: float = TIMESTEP_S,
    ) -> None:
        self.robot = robot
        self.scene = tabletop() if scene is None else scene
        self.model = build_model(robot, self.scene)
        self.model.opt.timestep = timestep
        self._data = mujoco.MjData(self.model)
        self._groups = {group.name: _GroupMap(self.model, i, group) for i, group in enumerate(robot.groups)}
        self._gravcomp = self.model.body_gravcomp.copy()
        self.reset(seed)

    @property
    def time(self) -> float:
        """Simulated time since the reset [s]."""
        return float(self._data.time)

    @property
    def timestep(self) -> float:
        """Length of one physics step [s]."""
        return float(self.model.opt.timestep)

    def reset(self, seed: int) -> None:
        """Put every joint to its home and every object to where `seed` puts it; all groups are enabled."""
        mujoco.mj_resetData(self.model, self._data)
        for group in self.robot.groups:
            self.set_enabled(group.name, True)
            self.set_force(group.name, np.ones(len(group.joints)))
            home = np.array([joint.home for joint in group.joints])
            at = self._groups[group.name]
            self._data.qpos[at.qpos] = at.ratio * home[at.column] + at.offset
            self.set_targets(group.name, home)
        for item, place in zip(self.scene.objects, self.scene.place(seed), strict=True):
            address = self.model.joint(item.name).qposadr[0]
            half = place.yaw / 2
            self._data.qpos[address : address + 7] = [
                place.x,
                place.y,
                place.z + item.height / 2,
                math.cos(half),
                0.0,
                0.0,
                math.sin(half),
            ]
        mujoco.mj_forward(self.model, self._data)

    def set_targets(self, group: str, positions: Vector, velocities: Vector | None = None) -> None:
        """Give the servos of `group` their set-point: finite float64 [N], driver's order, SI units.

        Args:
            group: joint group.
            positions: [rad or m].
            velocities: of the set-point [rad/s or m/s]; the servos then damp the difference from it and not all motion.
        """
        if not np.all(np.isfinite(positions)):
            raise ValueError(f"targets of {group} are not finite: {positions}")
        at = self._groups[group]
        self._data.ctrl[at.actuator] = at.ratio * positions[at.column] + at.offset
        if velocities is not None:
            self._data.ctrl[at.actuator] += at.damping_time * at.ratio * velocities[at.column]

    def set_force(self, group: str, fractions: Vector) -> None:
        """Limit the servos of `group` to fractions (0..1) of their force, float64 [N]."""
        at = self._groups[group]
        limit = at.force * fractions[at.column]
        self.model.actuator_forcerange[at.actuator] = np.stack([-limit, limit], axis=1)

    def set_enabled(self, group: str, enabled: bool) -> None:
        """Switch the drives of `group` on or off; an arm that is off falls, since it has no brakes."""
        at = self._groups[group]
        if enabled:
            self.model.opt.disableactuator &= ~at.bit
            self.model.body_gravcomp[at.bodies] = self._gravcomp[at.bodies]
        else:
            self.model.opt.disableactuator |= at.bit
            self.model.body_gravcomp[at.bodies] = 0.0

    def step(self) -> None:
        """Advance the physics by `timestep`.

        Raises:
            WorldDiverged: a value is not finite; the text says which and when.
        """
        self._stepped_to = self.time + self.timestep
        mujoco.mj_step(self.model, self._data)
        # MuJoCo resets a diverged world by itself; a robot that jumps home unasked would look like a working one.
        for kind in (
            mujoco.mjtWarning.mjWARN_BADQPOS,
            mujoco.mjtWarning.mjWARN_BADQVEL,
            mujoco.mjtWarning.mjWARN_BADQACC,
        ):
            warning = self._data.warning[kind]
            if warning.number:
                raise WorldDiverged(
                    f"simulated world of {self.robot.name} diverged ({kind.name} in "
                    f"{self._joint_of(kind, warning.lastinfo)}) near t = {self._stepped_to:.3f} s",
                    where="the servos in the robot file, or the command that was sent",
                )

    def _joint_of(self, kind: mujoco.mjtWarning, index: int) -> str:
        """Return the joint that element `index` of the positions (BADQPOS) or of the velocities belongs to."""
        model = self.model
        starts = model.jnt_qposadr if kind is mujoco.mjtWarning.mjWARN_BADQPOS else model.jnt_dofadr
        joint = int(np.searchsorted(np.asarray(starts), index, side="right")) - 1
        return f"joint {model.joint(max(joint, 0)).name}"

    def measured(self, group: str) -> Measured:
        """Return the joints of `group` as its driver measures them."""
        at, data = self._groups[group], self._data
        return Measured(
            positions=at.mean((data.qpos[at.qpos] - at.offset) / at.ratio),
            velocities=at.mean(data.qvel[at.dof] / at.ratio),
            efforts=at.mean(data.actuator_force[at.actuator] * np.sign(at.ratio)),
        )

    def object_positions(self) -> Mapping[str, Vector]:
        """Return object name -> centre in the world, float64 [3] [m]."""
        return {item.name: self._data.body(item.name).xpos.copy() for item in self.scene.objects}

    def body_position(self, link: str) -> Vector:
        """Return the origin of `link` in the world, float64 [3] [m]."""
        return np.array(self._data.body(link).xpos)

    def snapshot(self, stamp_ns: int) -> Snapshot:
        """Return the present positions for a `CameraRenderer` of another thread."""
        qpos = self._data.qpos.copy()
        qpos.flags.writeable = False
        return Snapshot(stamp_ns, qpos)


def _carried(model: mujoco.MjModel, bodies: set[int]) -> npt.NDArray[np.intp]:
    """Return `bodies` and all that they carry; a parent has a smaller number than its children."""
    carried = set(bodies)
    for body in range(1, model.nbody):
        if int(model.body_parentid[body]) in carried:
            carried.add(body)
    return np.array(sorted(carried), dtype=np.intp)
