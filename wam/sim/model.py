# SPDX-License-Identifier: Apache-2.0
"""A MuJoCo model from a robot's own xacro: servos, ignored contacts, cameras, objects, light."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import mujoco

from wam.core.errors import ConfigError
from wam.robots.description import RobotDescription
from wam.robots.urdf import ignored_pairs, robot_urdf
from wam.sim.look import FLOOR, KEY_LIGHT, add_textures
from wam.sim.quality import SUPERSAMPLE
from wam.sim.scene import Limb, LimbMotion, Part, Scene, SceneObject, Shape

TIMESTEP_S = 0.002
"""Physics step: 500 Hz."""

VISIBLE_GROUP = 1
"""Geometry group that cameras see; URDF collision shapes are in group 0."""

# A software renderer pays for shadows and round shapes by the vertex: these two halve the time of an image.
SHADOW_SIZE = 512
ROUND_SLICES = 20
ARMATURE_HINGE = 0.05  # reflected inertia of motor and gear [kg m^2]; keeps light wrists stable
ARMATURE_SLIDE = 0.05  # [kg]
JOINT_DAMPING = 0.5  # [N m s/rad] and [N s/m]
ARMATURE_LIMB = 1e-5  # keeps light limbs of objects stable [kg m^2 or kg]


def actuator_name(joint: str) -> str:
    """Return the name of the servo on the model joint `joint`."""
    return f"{joint}_servo"


def limb_name(item: str, limb: str) -> str:
    """Return the name of the body and of the joint of a limb of the object `item`."""
    return f"{item}/{limb}"


def position_names(model: mujoco.MjModel) -> tuple[str, ...]:
    """Return a name for every generalised position of a model: that of its joint, numbered where it has several."""
    begins = [*model.jnt_qposadr, model.nq]
    names: list[str] = []
    for joint, (begin, end) in enumerate(pairwise(begins)):
        name = model.joint(joint).name
        names += [name] if end - begin == 1 else [f"{name}[{number}]" for number in range(end - begin)]
    return tuple(names)


def build_model(robot: RobotDescription, scene: Scene) -> mujoco.MjModel:
    """Return the compiled world of `robot` in `scene`; objects stand at the origin until they are placed.

    Servos of joint group i are in actuator group i + 1, so that a whole group can be switched off.

    Raises:
        ConfigError: the robot has no model, a joint without `servo`, or names joints or frames that its URDF lacks.
        MissingDependency: xacro is not installed.
    """
    spec = mujoco.MjSpec.from_string(_for_mujoco(robot_urdf(robot)))
    spec.option.timestep = TIMESTEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.impratio = 10.0  # stiff friction, so that grasped objects do not creep
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    for body in spec.bodies[1:]:
        body.gravcomp = 1.0  # the arm's firmware compensates gravity
    _add_servos(spec, robot)
    _ignore_contacts(spec, robot)
    _add_cameras(spec, robot)
    _add_room(spec, scene)
    for item in scene.objects:
        _add_object(spec, item)
    return spec.compile()


def _for_mujoco(urdf: str) -> str:
    root = ElementTree.fromstring(urdf)
    extension = ElementTree.Element("mujoco")
    ElementTree.SubElement(
        extension, "compiler", {"fusestatic": "false", "discardvisual": "false", "balanceinertia": "true"}
    )
    root.insert(0, extension)
    return ElementTree.tostring(root, encoding="unicode")


def _add_servos(spec: mujoco.MjSpec, robot: RobotDescription) -> None:
    joints = {joint.name: joint for joint in spec.joints}
    for number, group in enumerate(robot.groups):
        for driven in group.joints:
            servo = driven.servo
            if servo is None:
                raise ConfigError(
                    f"{robot.source.name}: joint {driven.name} cannot be simulated",
                    allowed="a joint with `servo: {stiffness, damping, force, speed}`",
                    where=str(robot.source),
                )
            for coupled in driven.model_joints:
                joint = joints.get(coupled.name)
                if joint is None:
                    raise ConfigError(
                        f"{robot.source.name}: joint {driven.name} drives a joint that the URDF does not have",
                        value=coupled.name,
                        known=joints,
                        where=str(robot.source),
                    )
                slides = joint.type == mujoco.mjtJoint.mjJNT_SLIDE
                joint.armature = ARMATURE_SLIDE if slides else ARMATURE_HINGE
                joint.damping[0] = JOINT_DAMPING
                actuator = spec.add_actuator(
                    name=actuator_name(coupled.name),
                    trntype=mujoco.mjtTrn.mjTRN_JOINT,
                    target=coupled.name,
                    group=number + 1,
                    forcelimited=True,
                    forcerange=[-servo.force, servo.force],
                )
                actuator.set_to_position(kp=servo.stiffness, kv=servo.damping)


def _ignore_contacts(spec: mujoco.MjSpec, robot: RobotDescription) -> None:
    bodies = {body.name for body in spec.bodies}
    for pair in sorted(tuple(sorted(pair)) for pair in ignored_pairs(robot)):
        if not bodies.issuperset(pair):
            missing = sorted(set(pair) - bodies)
            raise ConfigError(
                f"the SRDF of {robot.name} names a link that the URDF does not have",
                value=missing,
                known=sorted(bodies),
                where=str(robot.srdf),
            )
        spec.add_exclude(bodyname1=pair[0], bodyname2=pair[1])


def _add_cameras(spec: mujoco.MjSpec, robot: RobotDescription) -> None:
    bodies = {body.name: body for body in spec.bodies}
    for camera in robot.cameras:
        if camera.vertical_fov is None:
            continue
        if camera.frame_id not in bodies:
            raise ConfigError(
                f"{robot.source.name}: frame_id of camera {camera.name} is no link of the URDF",
                value=camera.frame_id,
                known=bodies,
                where=str(robot.source),
            )
        # An optical frame looks along z with y down; a MuJoCo camera looks along -z with y up.
        bodies[camera.frame_id].add_camera(
            name=camera.name, quat=[0, 1, 0, 0], fovy=math.degrees(camera.vertical_fov)
        )
        buffer = spec.visual.global_
        buffer.offwidth = max(buffer.offwidth, SUPERSAMPLE * camera.width)
        buffer.offheight = max(buffer.offheight, SUPERSAMPLE * camera.height)


def _add_room(spec: mujoco.MjSpec, scene: Scene) -> None:
    quality = spec.visual.quality
    quality.offsamples = 0
    quality.shadowsize = SHADOW_SIZE
    quality.numslices = ROUND_SLICES
    quality.numquads = 1
    spec.visual.headlight.ambient = [0.42, 0.42, 0.42]
    spec.visual.headlight.diffuse = [0.25, 0.25, 0.25]
    spec.visual.headlight.specular = [0.05, 0.05, 0.05]
    spec.visual.map.znear = 0.01
    spec.stat.extent = 1.5
    spec.stat.center = [0.3, 0.0, 0.1]
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.80, 0.84, 0.88],
        rgb2=[0.55, 0.58, 0.62],
        width=64,
        height=384,
    )
    add_textures(spec)
    world = spec.worldbody
    world.add_geom(
        name=FLOOR,
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[4, 4, 0.1],
        pos=[0, 0, scene.floor_z],
        rgba=[0.47, 0.49, 0.52, 1],
        group=VISIBLE_GROUP,
    )
    world.add_light(
        name=KEY_LIGHT,
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0.3, 0.5, 2.2],
        dir=[0.12, -0.25, -1.0],
        diffuse=[0.55, 0.55, 0.52],
        specular=[0.2, 0.2, 0.2],
        castshadow=True,
    )


_GEOMETRY = {
    Shape.BOX: mujoco.mjtGeom.mjGEOM_BOX,
    Shape.CYLINDER: mujoco.mjtGeom.mjGEOM_CYLINDER,
    Shape.CAPSULE: mujoco.mjtGeom.mjGEOM_CAPSULE,
    Shape.ELLIPSOID: mujoco.mjtGeom.mjGEOM_ELLIPSOID,
}


def _add_object(spec: mujoco.MjSpec, item: SceneObject) -> None:
    body = spec.worldbody.add_body(name=item.name)
    if not item.fixed:
        body.add_freejoint(name=item.name)
    _add_solids(body, item, item.solids, item.mass, name=item.name)
    for limb in item.limbs:
        _add_limb(body, item, limb)


def _add_limb(carrier: mujoco.MjsBody, item: SceneObject, limb: Limb) -> None:
    name = limb_name(item.name, limb.name)
    body = carrier.add_body(name=name, pos=limb.position)
    slides = limb.motion is LimbMotion.SLIDE
    body.add_joint(
        name=name,
        type=mujoco.mjtJoint.mjJNT_SLIDE if slides else mujoco.mjtJoint.mjJNT_HINGE,
        axis=limb.axis,
        limited=True,
        range=[limb.lower, limb.upper],
        damping=[limb.damping, 0, 0],
        frictionloss=limb.friction,
        stiffness=[limb.stiffness, 0, 0],
        springref=limb.home,
        armature=ARMATURE_LIMB,
    )
    _add_solids(body, item, limb.parts, limb.mass, name=name)
    for carried in limb.limbs:
        _add_limb(body, item, carried)


def _add_solids(
    body: mujoco.MjsBody, item: SceneObject, parts: tuple[Part, ...], mass: float, *, name: str
) -> None:
    volume = sum(part.volume for part in parts)
    for number, part in enumerate(parts):
        body.add_geom(
            name=name if number == 0 else f"{name}#{number}",
            type=_GEOMETRY[part.shape],
            size=_half_sizes(part),
            pos=part.position,
            quat=_quaternion(part.rotation),
            rgba=part.rgba or item.rgba,
            mass=mass * part.volume / volume,
            group=VISIBLE_GROUP,
            condim=4,
            friction=[item.friction, 0.005, 0.0001],
        )


def _half_sizes(part: Part) -> list[float]:
    """Return the size as MuJoCo counts it."""
    if part.shape in (Shape.BOX, Shape.ELLIPSOID):
        return [edge / 2 for edge in part.size]
    radius, height = part.size
    return [radius, height / 2 - (radius if part.shape is Shape.CAPSULE else 0.0), 0.0]


def _quaternion(rotation: tuple[float, float, float]) -> list[float]:
    """Return w, x, y, z of roll, pitch, yaw about fixed axes."""
    (cr, sr), (cp, sp), (cy, sy) = ((math.cos(angle / 2), math.sin(angle / 2)) for angle in rotation)
    return [
        cr * cp * cy + sr * sp * sy,
        sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy,
    ]
