# SPDX-License-Identifier: Apache-2.0
"""Which joints MoveIt is told about: only those that its model has, since move_group ends at the first other name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from wam.core.errors import InputError
from wam.core.safety.collision import CheckerSilent
from wam.robots.description import JointKind, JointSpec, RobotDescription
from wam.robots.joint_mapping import ModelJoint


@dataclass(frozen=True, slots=True)
class MoveItJoint:
    """A joint of the URDF, and how MoveIt may know it.

    Attributes:
        name: in the suite's URDF, with the prefix of its group.
        driver_name: in the driver's messages, without it; "" for a joint that only follows one of the driver.
        needed: whether an answer is worthless where MoveIt does not know it: that of a revolute joint, since it carries
            an arm; fingers (metres and fractions) may be missing.
    """

    name: str
    driver_name: str
    needed: bool


@dataclass(frozen=True, slots=True)
class KnownJoints:
    """The joints that MoveIt is told about.

    Attributes:
        names: as its model has them.
        columns: where their positions are among those of the URDF's joints.
        left_out: joints of the URDF that its model does not have.
    """

    names: tuple[str, ...]
    columns: tuple[int, ...]
    left_out: tuple[str, ...]


def moveit_joints(robot: RobotDescription) -> tuple[MoveItJoint, ...]:
    """Return the joints of the URDF in the order of `wam.robots.collision.model_joints`."""
    return tuple(
        MoveItJoint(coupled.name, _driver_name(joint, coupled), needed=joint.kind is JointKind.REVOLUTE)
        for joint in robot.joints
        for coupled in joint.model_joints
    )


def _driver_name(joint: JointSpec, coupled: ModelJoint) -> str:
    return joint.driver_name if coupled == ModelJoint(joint.name) else ""


def known_joints(joints: Sequence[MoveItJoint], model: Collection[str]) -> KnownJoints:
    """Return which of the joints MoveIt's model has, by their own names, else by those of the driver.

    A driver's name counts only where one joint has it: `joint1` of a model of one arm is not both arms of two.

    Args:
        joints: joints of the URDF.
        model: variables of MoveIt's model.

    Raises:
        CheckerSilent: a needed joint is not among them, so that MoveIt would judge an arm that stands elsewhere.
    """
    drivers = Counter(joint.driver_name for joint in joints)
    own = {joint.name for joint in joints}
    names, columns, left_out = [], [], []
    for column, joint in enumerate(joints):
        other = joint.driver_name
        if joint.name in model:
            name = joint.name
        elif other in model and other not in own and drivers[other] == 1:
            name = other
        else:
            left_out.append(joint)
            continue
        names.append(name)
        columns.append(column)
    missing = [joint.name for joint in left_out if joint.needed]
    if missing or not names:
        raise CheckerSilent(
            "the model of MoveIt does not have the joints " + ", ".join(missing or sorted(own)),
            value=", ".join(sorted(model)) or "no joint",
            allowed="the names of the robot file, or of its driver where only one joint has that",
            where="the MoveIt configuration, or the parameter `moveit` of the safety node",
        )
    return KnownJoints(tuple(names), tuple(columns), tuple(joint.name for joint in left_out))


def joints_to_text(joints: Sequence[MoveItJoint]) -> str:
    """Return the joints as one argument of a command line (JSON)."""
    return json.dumps([[joint.name, joint.driver_name, joint.needed] for joint in joints])


def joints_from_text(text: str) -> tuple[MoveItJoint, ...]:
    """Return the joints of `joints_to_text`.

    Raises:
        InputError: the text is not of that form.
    """
    try:
        return tuple(
            MoveItJoint(str(name), str(driver_name), bool(needed))
            for name, driver_name, needed in json.loads(text)
        )
    except (ValueError, TypeError) as error:
        raise InputError(
            "joints of the MoveIt helper are malformed",
            value=text,
            allowed="[[name, driver name, needed], ...]",
        ) from error
