# SPDX-License-Identifier: Apache-2.0
"""What each driver insists on, checked when a robot file is read: its joints, their kinds, how it is commanded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wam.robots.description import CommandKind, DriverKind, JointGroup, JointKind
from wam.robots.yaml_reader import Value

STREAM, TRAJECTORY = CommandKind.JOINT_STATE_STREAM, CommandKind.JOINT_TRAJECTORY
REVOLUTE, PRISMATIC, RATIO = JointKind.REVOLUTE, JointKind.PRISMATIC, JointKind.RATIO


@dataclass(frozen=True, slots=True)
class DriverRule:
    """What a driver insists on.

    Attributes:
        commands: kinds of command it takes.
        kinds: kinds that its joints may have.
        joints: ends of its joints' names, in the order of the kinematic chain; what stands before them is the same
            for all. Empty where the names are free.
        count: number of joints; 0 where it is free.
        why: what becomes of a joint that is missing.
    """

    commands: tuple[CommandKind, ...]
    kinds: tuple[JointKind, ...]
    joints: tuple[str, ...] = ()
    count: int = 0
    why: str = ""


RULES: Mapping[DriverKind, DriverRule] = {
    DriverKind.PIPER: DriverRule(
        (STREAM,),
        (REVOLUTE, PRISMATIC),
        (*(f"joint{i}" for i in range(1, 7)), "gripper"),
        why="the driver drives a joint that a command lacks to 0 rad",
    ),
    DriverKind.FRANKA: DriverRule(
        (TRAJECTORY,),
        (REVOLUTE,),
        tuple(f"joint{i}" for i in range(1, 8)),
        why="the driver claims all seven joints together",
    ),
    DriverKind.FRANKA_GRIPPER: DriverRule(
        (STREAM, TRAJECTORY), (PRISMATIC,), count=1, why="one value stands for both fingers"
    ),
    DriverKind.UR: DriverRule(
        (TRAJECTORY,),
        (REVOLUTE,),
        (
            "shoulder_pan_joint",
            "shoulder_lift_joint",
            "elbow_joint",
            "wrist_1_joint",
            "wrist_2_joint",
            "wrist_3_joint",
        ),
        why="the trajectory controller refuses a trajectory without it",
    ),
    DriverKind.INSPIRE: DriverRule(
        (STREAM, TRAJECTORY), (REVOLUTE, RATIO), count=6, why="a drive without a joint never moves"
    ),
    DriverKind.NONE: DriverRule(tuple(CommandKind), tuple(JointKind)),
}


def require_driver(group: JointGroup, value: Value) -> None:
    """Check a group against the rule of its driver.

    Args:
        group: as it was read.
        value: the group in the file.

    Raises:
        ConfigError: a joint is missing, of another kind or in another place, or the driver takes no such commands.
    """
    rule, fields = RULES[group.driver], value.table()
    if group.command_kind not in rule.commands:
        raise fields["command"].error(
            f"is none that driver {group.driver.value} takes",
            value=group.command_kind.value,
            allowed=", ".join(kind.value for kind in rule.commands),
        )
    at = fields["joints"].items()
    for joint, place in zip(group.joints, at, strict=True):
        if joint.kind not in rule.kinds:
            raise place.error(
                f"is of a kind that driver {group.driver.value} does not have",
                value=joint.kind.value,
                allowed=", ".join(kind.value for kind in rule.kinds),
            )
    if rule.joints:
        _require_names(group.driver_names, rule, fields["joints"], at)
    elif rule.count and len(group.joints) != rule.count:
        raise fields["joints"].error(
            f"has another number of joints than driver {group.driver.value}",
            value=f"{len(group.joints)}: {', '.join(group.driver_names)}",
            allowed=f"{rule.count}; {rule.why}",
        )


def _require_names(names: Sequence[str], rule: DriverRule, joints: Value, at: Sequence[Value]) -> None:
    before = next((n.removesuffix(end) for n in names for end in rule.joints if n.endswith(end)), "")
    wanted = [before + end for end in rule.joints]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise joints.error(
            f"lacks {', '.join(missing)}",
            value=", ".join(names),
            allowed=f"{', '.join(wanted)}, in this order; {rule.why}",
        )
    for name, expected, place in zip(names, wanted, at, strict=False):
        if name != expected:
            raise place.error("stands in another place", value=name, allowed=f"{expected} here")
    if len(names) > len(wanted):
        raise at[len(wanted)].error(
            "is no joint of the driver", value=names[len(wanted)], allowed=", ".join(wanted)
        )
