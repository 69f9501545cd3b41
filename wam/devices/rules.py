# SPDX-License-Identifier: Apache-2.0
"""Requirements of a device's driver on its joint group: joints, their kinds and order, kinds of command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wam.robots.description import CommandKind, JointGroup, JointKind
from wam.robots.units import Dimension
from wam.robots.yaml_reader import Value

STREAM, TRAJECTORY = CommandKind.JOINT_STATE_STREAM, CommandKind.JOINT_TRAJECTORY
REVOLUTE, PRISMATIC, RATIO = JointKind.REVOLUTE, JointKind.PRISMATIC, JointKind.RATIO


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """What the driver of a device requires of a joint group.

    Attributes:
        commands: kinds of command it takes.
        kinds: kinds that its joints may have.
        joints: endings of its joints' names, in the order of the kinematic chain; all share one prefix. Empty where
            any name is allowed.
        count: number of joints; 0 for any number.
        why: consequence of a missing joint, for error texts.
        spellings: other endings that releases of the driver have for all of `joints`, in the same order.
        command_topic: returns how the command topic must end, where that depends on the group; "" for any.
    """

    commands: tuple[CommandKind, ...]
    kinds: tuple[JointKind, ...]
    joints: tuple[str, ...] = ()
    count: int = 0
    why: str = ""
    spellings: tuple[tuple[str, ...], ...] = ()
    command_topic: Callable[[JointGroup], str] | None = None


def require_rule(rule: DeviceRule, group: JointGroup, value: Value) -> None:
    """Check a group against the rule of its device.

    Args:
        rule: of the group's kind of device.
        group: as read from the file.
        value: the group in the file, for the line in error texts.

    Raises:
        ConfigError: a joint is missing, of a wrong kind or out of order, or the driver takes no such commands.
    """
    fields = value.table()
    if group.command_kind not in rule.commands:
        raise fields.get("command", value).error(
            f"is none that driver {group.driver} takes",
            value=group.command_kind.value,
            allowed=", ".join(kind.value for kind in rule.commands),
        )
    ending = "" if rule.command_topic is None else rule.command_topic(group)
    if not f"/{group.command_topic}".endswith(f"/{ending}".rstrip("/")):
        raise fields["command"].error(
            "has a topic that the driver behind this state topic does not take all joints from",
            value=group.command_topic,
            allowed=f"one that ends with {ending}",
        )
    at = fields["joints"].items()
    for joint, place in zip(group.joints, at, strict=True):
        if joint.kind not in rule.kinds:
            raise place.error(
                f"is of a kind that driver {group.driver} does not have",
                value=joint.kind.value,
                allowed=", ".join(kind.value for kind in rule.kinds),
            )
    if rule.joints:
        _require_names(group.driver_names, rule, fields["joints"], at)
    elif rule.count and len(group.joints) != rule.count:
        raise fields["joints"].error(
            f"has another number of joints than driver {group.driver}",
            value=f"{len(group.joints)}: {', '.join(group.driver_names)}",
            allowed=f"{rule.count}; {rule.why}",
        )


def spelled(rule: DeviceRule, group: JointGroup) -> tuple[tuple[str, ...], ...]:
    """Return `DeviceRule.spellings` with the prefix that the group's joints have.

    Args:
        rule: of the group's kind of device.
        group: fits the rule.
    """
    prefix = group.driver_names[0].removesuffix(rule.joints[0]) if rule.joints else ""
    return tuple(tuple(prefix + ending for ending in one) for one in rule.spellings)


def _require_names(names: Sequence[str], rule: DeviceRule, joints: Value, at: Sequence[Value]) -> None:
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


def require_effort(dimensions: Sequence[Dimension], external: bool, group: JointGroup, value: Value) -> None:
    """Check that the effort limits of a group are about something that its driver reports.

    Args:
        dimensions: what the driver reports as effort; empty for nothing.
        external: the driver reports external torques.
        group: as read from the file.
        value: the group in the file, for the line in error texts.

    Raises:
        ConfigError: a limit is about something that is not reported, or has another unit than what is.
    """
    reported = {"effort": tuple(dimensions), "external_torque": (Dimension.TORQUE,) if external else ()}
    for joint, place in zip(group.joints, value.table()["joints"].items(), strict=True):
        for key, limits in (("effort", joint.effort), ("external_torque", joint.external_torque)):
            units = [one.value for one in reported[key]]
            if not limits.guarded or limits.unit in units:
                continue
            at = place.table()[key]
            if not units:
                raise at.error(
                    f"cannot be watched: driver {group.driver} does not report it", allowed="no such key"
                )
            raise at.error(
                f"has another unit than what driver {group.driver} reports",
                value=limits.unit,
                allowed=f"{{value: ..., unit: {' or '.join(units)}}} for hold and stop",
            )
