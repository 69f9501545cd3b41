# SPDX-License-Identifier: Apache-2.0
"""A robot file with another model: the vendor's own description in place of the suite's. Imports no launch."""

from __future__ import annotations

from pathlib import Path

import yaml

from wam.core.errors import ConfigError
from wam.devices.loader import load_robot
from wam.robots.kinematics import RobotModel
from wam.robots.loader import find_robot


def with_description(robot: str, description: Path, folder: Path) -> Path:
    """Write the file of `robot` with the model `description` into `folder` and return it.

    Everything else stays: joints, limits, topics, cameras, ignored pairs. Arguments of the suite's own xacro are left
    out, since they do not apply to the other file.

    Args:
        robot: a name in config/robots, or a robot file.
        description: URDF or xacro file whose joints have the names that the robot file drives.
        folder: existing folder; the file keeps its name, which is the robot's.

    Raises:
        ConfigError: a file is missing, the robot has no model, or the description lacks a joint or a link, or has other
            limits.
    """
    source = find_robot(robot)
    if not description.is_file():
        raise ConfigError(
            "description does not exist",
            value=str(description),
            allowed="an existing URDF or xacro file",
            where="the argument `description`",
        )
    content = yaml.safe_load(source.read_text(encoding="utf-8"))
    known = load_robot(source)
    if known.urdf is None:
        raise ConfigError(f"robot {known.name} has no model to replace", where=str(source))
    content["model"] = {"urdf": str(description.resolve())}
    if known.srdf is not None:
        content["model"]["srdf"] = str(known.srdf)
    out = folder / source.name
    out.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    try:
        RobotModel(load_robot(out))
    except ConfigError as error:
        raise ConfigError(
            f"the description does not fit robot {known.name}: {error.what}",
            value=error.value,
            allowed=error.allowed,
            where=f"{description}, or {source}",
        ) from None
    return out
