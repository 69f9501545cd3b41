# SPDX-License-Identifier: Apache-2.0
"""A robot and its surroundings in MuJoCo: targets in, measured joints and snapshots out. Deterministic from a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import mujoco
import numpy as np
import numpy.typing as npt

from wam.core.errors import WamError
from wam.devices.twin import MeasuredJoints, Vector
from wam.robots.description import JointGroup, RobotDescription
from wam.sim.look import Dresser
from wam.sim.model import TIMESTEP_S, actuator_name, build_model, limb_name
from wam.sim.scene import Limb, Placement, Scene, SceneObject, tabletop

Pose = npt.NDArray[np.float64]
"""float64 [4, 4], homogeneous; lengths in m."""

AWAY = (-8.0, 0.0, 9.0)
"""Place of objects that a scene leaves out: behind and above the robot, out of every camera's view [m]."""

AWAY_SPACING = 1.0
"""Distance between two of them [m]."""


class WorldDiverged(WamError):
    """The physics produced values that are not finite; the world must be reset."""


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


class _ObjectMap:
    """Where an object lives in the model."""

    def __init__(self, model: mujoco.MjModel, number: int, item: SceneObject) -> None:
        self.item = item
        self.body = int(model.body(item.name).id)
        inside = _carried(model, {self.body})
        self.geometries = np.flatnonzero(np.isin(model.geom_bodyid, inside))
        self.bodies = inside
        self.away = np.array([AWAY[0], AWAY[1] + number * AWAY_SPACING, AWAY[2]])
        joint = None if item.fixed else model.joint(item.name)
        self.qpos = -1 if joint is None else int(joint.qposadr[0])
        self.dof = -1 if joint is None else int(joint.dofadr[0])
        self.limbs = {
            limb.name: (int(model.joint(limb_name(item.name, limb.name)).qposadr[0]), limb.home)
            for limb in _limbs(item.limbs)
        }


class SimWorld:
    """A simulated robot. One thread at a time.

    Args:
        robot: a robot with a model and servos.
        seed: of everything random (placements).
        scene: objects and room; None takes the table top.
        timestep: length of one physics step [s].

    Attributes:
        moving_links: links that the robot's drives move.

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
        self._objects = {
            item.name: _ObjectMap(self.model, i, item) for i, item in enumerate(self.scene.objects)
        }
        self._dresser = Dresser(self.model, {name: at.geometries for name, at in self._objects.items()})
        self._gravcomp = self.model.body_gravcomp.copy()
        self.moving_links = frozenset(
            self.model.body(body).name for at in self._groups.values() for body in at.bodies
        )
        self._present: set[str] = set()
        self._labels, self._names = self._contact_labels()
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
        """Put every joint to its home and every object to where `seed` puts it; all groups are enabled.

        Look and light change as well: cameras of this world show them from their next image on.
        """
        mujoco.mj_resetData(self.model, self._data)
        for group in self.robot.groups:
            self.set_enabled(group.name, True)
            self.set_force(group.name, np.ones(len(group.joints)))
            home = np.array([joint.home for joint in group.joints])
            at = self._groups[group.name]
            self._data.qpos[at.qpos] = at.ratio * home[at.column] + at.offset
            self.set_targets(group.name, home)
        for item, place in zip(self._objects.values(), self.scene.place(seed), strict=True):
            self._put(item, place)
        self._dresser.apply(self.scene.look(seed))
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
        # MuJoCo resets a diverged world by itself; a robot that silently jumps home would look like a working one.
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

    def measured(self, group: str) -> MeasuredJoints:
        """Return the joints of `group` as its driver measures them."""
        at, data = self._groups[group], self._data
        return MeasuredJoints(
            positions=at.mean((data.qpos[at.qpos] - at.offset) / at.ratio),
            velocities=at.mean(data.qvel[at.dof] / at.ratio),
            efforts=at.mean(data.actuator_force[at.actuator] * np.sign(at.ratio)),
        )

    def shift_object(self, name: str, shift: Vector) -> None:
        """Shift an object by x, y in the world, float64 [2] [m]; a fixture as well as one that is free."""
        at = self._objects[name]
        if at.item.fixed:
            self.model.body_pos[at.body][:2] += shift
        else:
            self._data.qpos[at.qpos : at.qpos + 2] += shift

    def object_positions(self) -> Mapping[str, Vector]:
        """Return object name -> centre in the world, float64 [3] [m]."""
        return {item.name: self._data.body(item.name).xpos.copy() for item in self.scene.objects}

    def object_pose(self, name: str) -> Pose:
        """Return the frame of an object in the world, float64 [4, 4]; see `SceneObject`."""
        return self._pose(self._objects[name].body)

    def object_centre(self, name: str) -> Vector:
        """Return the centre of mass of an object with its limbs, float64 [3] [m]."""
        return np.array(self._data.subtree_com[self._objects[name].body])

    def object_speed(self, name: str) -> float:
        """Return how fast the origin of an object moves [m/s]; zero for a fixture."""
        at = self._objects[name]
        return 0.0 if at.dof < 0 else float(np.linalg.norm(self._data.qvel[at.dof : at.dof + 3]))

    def limb_position(self, name: str, limb: str) -> float:
        """Return the position of a limb's joint [rad or m]."""
        return float(self._data.qpos[self._objects[name].limbs[limb][0]])

    def is_present(self, name: str) -> bool:
        """Return whether the scene has put this object on the table."""
        return name in self._present

    def link_pose(self, link: str) -> Pose:
        """Return the frame of `link` in the world, float64 [4, 4]."""
        return self._pose(int(self.model.body(link).id))

    def positions(self) -> Vector:
        """Return the measured positions of all joints in the robot's order, float64 [N]."""
        return np.concatenate([self.measured(group.name).positions for group in self.robot.groups])

    def velocities(self) -> Vector:
        """Return the measured velocities of all joints in the robot's order, float64 [N]."""
        return np.concatenate([self.measured(group.name).velocities for group in self.robot.groups])

    def contact_forces(self) -> Mapping[frozenset[str], float]:
        """Return the normal force between each two that touch [N]; objects go by name, the robot by its links."""
        contact = self._data.contact
        rows = np.asarray(contact.efc_address)
        acting = np.flatnonzero(rows >= 0)
        if not acting.size:
            return {}
        forces = self._data.efc_force[rows[acting]]
        pairs = np.sort(self._labels[np.asarray(contact.geom)[acting]], axis=1)
        codes, index = np.unique(pairs[:, 0] * len(self._names) + pairs[:, 1], return_inverse=True)
        sums = np.bincount(index.ravel(), weights=forces)
        return {
            frozenset((self._names[code // len(self._names)], self._names[code % len(self._names)])): float(
                total
            )
            for code, total in zip(codes.tolist(), sums.tolist(), strict=True)
        }

    def body_position(self, link: str) -> Vector:
        """Return the origin of `link` in the world, float64 [3] [m]."""
        return np.array(self._data.body(link).xpos)

    def snapshot(self, stamp_ns: int) -> Snapshot:
        """Return the present positions for a `CameraRenderer` of another thread."""
        qpos = self._data.qpos.copy()
        qpos.flags.writeable = False
        return Snapshot(stamp_ns, qpos)

    def _put(self, at: _ObjectMap, place: Placement | None) -> None:
        """Put an object where it belongs, or out of the way."""
        item, data = at.item, self._data
        away = place is None
        if place is None:
            position, half = at.away, 0.0
        else:
            position, half = np.array([place.x, place.y, place.z + item.origin_height]), place.yaw / 2
        quaternion = [math.cos(half), 0.0, 0.0, math.sin(half)]
        if item.fixed:
            self.model.body_pos[at.body], self.model.body_quat[at.body] = position, quaternion
        else:
            data.qpos[at.qpos : at.qpos + 7] = [*position, *quaternion]
        for address, home in at.limbs.values():
            data.qpos[address] = home
        # Objects that are out of the way would fall forever.
        self.model.body_gravcomp[at.bodies] = self._gravcomp[at.bodies] = 1.0 if away else 0.0
        (self._present.discard if away else self._present.add)(item.name)

    def _pose(self, body: int) -> Pose:
        pose = np.eye(4)
        pose[:3, :3] = self._data.xmat[body].reshape(3, 3)
        pose[:3, 3] = self._data.xpos[body]
        return pose

    def _contact_labels(self) -> tuple[npt.NDArray[np.intp], tuple[str, ...]]:
        """Return the number of each geometry's owner, intp [ngeom], and the owners' names."""
        owner = [self.model.body(body).name for body in range(self.model.nbody)]
        for name, at in self._objects.items():
            for body in at.bodies:
                owner[body] = name
        names = tuple(dict.fromkeys(owner))
        number = {name: i for i, name in enumerate(names)}
        return np.array([number[owner[body]] for body in self.model.geom_bodyid], dtype=np.intp), names


def _limbs(limbs: tuple[Limb, ...]) -> Iterator[Limb]:
    for limb in limbs:
        yield limb
        yield from _limbs(limb.limbs)


def _carried(model: mujoco.MjModel, bodies: set[int]) -> npt.NDArray[np.intp]:
    """Return `bodies` and all that they carry; a parent has a smaller number than its children."""
    carried = set(bodies)
    for body in range(1, model.nbody):
        if int(model.body_parentid[body]) in carried:
            carried.add(body)
    return np.array(sorted(carried), dtype=np.intp)
