# SPDX-License-Identifier: Apache-2.0
"""Robot models as text: xacro to URDF, the joints in it, and the contacts that an SRDF tells to ignore."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from wam.core.errors import ConfigError
from wam.core.extras import missing
from wam.robots.description import RobotDescription

_ARGUMENT = re.compile(r"<xacro:arg\s[^>]*?\bname\s*=\s*[\"']([^\"']+)[\"']")

_EXPANDED: list[tuple[RobotDescription, str]] = []
"""The description whose model was expanded last, and its text: a node builds several checkers of one robot. A robot
file that is read again makes another description."""


@dataclass(frozen=True, slots=True)
class UrdfJoint:
    """A joint as a URDF writes it.

    Attributes:
        name: its name.
        kind: "revolute", "prismatic", "continuous", "fixed", ...
        parent: parent link.
        child: child link.
        lower: lower limit [rad or m]; -inf where there is none.
        upper: upper limit [rad or m]; inf where there is none.
        velocity: velocity limit [rad/s or m/s]; inf where there is none.
        effort: largest torque or force [N m or N]; inf where there is none.
        mimics: joint that it follows; "" for none.
    """

    name: str
    kind: str
    parent: str
    child: str
    lower: float
    upper: float
    velocity: float
    effort: float = math.inf
    mimics: str = ""

    @property
    def moves(self) -> bool:
        """Whether it has a degree of freedom."""
        return self.kind != "fixed"


def robot_urdf(robot: RobotDescription) -> str:
    """Return the URDF of a robot, expanded from its xacro file with its arguments.

    Raises:
        ConfigError: the robot has no model, or its xacro file is faulty or does not know an argument.
        MissingDependency: xacro is not installed.
    """
    if robot.urdf is None:
        raise ConfigError(
            f"robot {robot.name} has no model",
            allowed="a robot whose file has `model: {urdf: ...}`",
            where=str(robot.source),
        )
    # xacro ignores an argument that it does not know, and a mistyped one would give the default's robot.
    known = _ARGUMENT.findall(robot.urdf.read_text(encoding="utf-8"))
    for name, _ in robot.xacro_args:
        if name not in known:
            raise ConfigError(
                f"{robot.source.name}: model.args names an argument that {robot.urdf.name} does not have",
                value=name,
                allowed=", ".join(known) or "none",
                where=str(robot.source),
            )
    for expanded, urdf in _EXPANDED:
        if expanded is robot:
            return urdf
    urdf = expand_xacro(robot.urdf, dict(robot.xacro_args))
    _EXPANDED[:] = [(robot, urdf)]
    return urdf


def expand_xacro(file: Path, arguments: dict[str, str]) -> str:
    """Return `file` (xacro or plain URDF) as URDF text.

    Raises:
        ConfigError: the file is faulty.
        MissingDependency: xacro is not installed.
    """
    try:
        import xacro
    except ModuleNotFoundError as error:
        if error.name != "xacro":
            raise
        raise missing("robot models need xacro", "xacro") from None
    try:
        return str(xacro.process_file(str(file), mappings=arguments).toxml())
    except Exception as error:  # xacro raises what the expressions in a file raise
        raise ConfigError(f"{file.name} cannot be expanded: {error}", where=str(file)) from error


def urdf_joints(urdf: str) -> dict[str, UrdfJoint]:
    """Return the joints of a URDF by name, in file order.

    Raises:
        ConfigError: the text is no URDF.
    """
    joints: dict[str, UrdfJoint] = {}
    for element in _root(urdf, "the URDF").findall("joint"):
        parent, child, limit = element.find("parent"), element.find("child"), element.find("limit")
        if parent is None or child is None:
            raise ConfigError(
                f"URDF joint {element.get('name')} lacks its parent or child", where="the xacro file"
            )
        bounds = {} if limit is None else limit.attrib
        name = element.get("name", "")
        joints[name] = UrdfJoint(
            name=name,
            kind=element.get("type", ""),
            parent=parent.get("link", ""),
            child=child.get("link", ""),
            lower=float(bounds.get("lower", -math.inf)),
            upper=float(bounds.get("upper", math.inf)),
            velocity=float(bounds.get("velocity", math.inf)),
            effort=float(bounds.get("effort", math.inf)),
            mimics="" if (mimic := element.find("mimic")) is None else mimic.get("joint", ""),
        )
    return joints


def ignored_pairs(robot: RobotDescription) -> frozenset[frozenset[str]]:
    """Return the pairs of links whose contact the robot's SRDF tells to ignore.

    Raises:
        ConfigError: the SRDF is faulty.
    """
    if robot.srdf is None:
        return frozenset()
    root = _root(robot.srdf.read_text(encoding="utf-8"), str(robot.srdf))
    return frozenset(
        frozenset((element.get("link1", ""), element.get("link2", "")))
        for element in root.findall("disable_collisions")
    )


def _root(text: str, what: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ConfigError(f"{what} is no well-formed XML: {error}", where=what) from None
