# SPDX-License-Identifier: Apache-2.0
"""Controller parameters: the vendor's file overridden by ours, by ROS 2 distribution. Imports no launch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from wam.core.errors import ConfigError
from wam.robots.description import Distribution
from wam.robots.loader import DISTRIBUTION_VARIABLE
from wam.robots.paths import config_dir

WILDCARD = "/**"
"""Node name under which some parameter files put all others."""

Parameters = dict[str, Any]


def distribution_here() -> Distribution:
    """Return the distribution of the environment.

    Raises:
        ConfigError: none is sourced, or one without controller files.
    """
    name = os.environ.get(DISTRIBUTION_VARIABLE, "")
    for distribution in Distribution:
        if distribution.value == name:
            return distribution
    raise ConfigError(
        "ROS 2 distribution",
        value=name or "none",
        allowed=", ".join(one.value for one in Distribution),
        where=f"the environment variable {DISTRIBUTION_VARIABLE}: source /opt/ros/NAME/setup.bash",
    )


def controllers_file(kind: str, distribution: Distribution) -> Path:
    """Return the file of a kind of device for `distribution`; rolling takes that of the newest release.

    Args:
        kind: `controllers` of the kind.
        distribution: of the environment.

    Raises:
        ConfigError: there is none.
    """
    name = Distribution.LYRICAL if distribution is Distribution.ROLLING else distribution
    path = config_dir() / "controllers" / f"{kind}.{name.value}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"there are no controller parameters for {kind}",
            value=distribution.value,
            allowed=", ".join(sorted(found.name for found in path.parent.glob("*.yaml"))),
            where=str(path.parent),
        )
    return path


def read_parameters(path: Path) -> Parameters:
    """Return a ROS parameter file as a mapping of node name to parameters.

    Raises:
        ConfigError: the file is missing or holds something else.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path.name} cannot be read: {error}", where=str(path)) from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path.name} contains no ROS parameters", allowed="a mapping", where=str(path))
    return content


def merged(vendor: Mapping[str, Any], ours: Mapping[str, Any]) -> Parameters:
    """Return `vendor` overridden by `ours`, node by node and key by key; lists are replaced as a whole.

    A vendor's file may put its nodes at the top or below the wildcard "/**"; ours go where the vendor has that node.
    """
    result: Parameters = dict(vendor)
    below = result.get(WILDCARD)
    if not isinstance(below, Mapping) or "ros__parameters" in below:
        below = {}
    inner: Parameters = dict(below)
    for node, parameters in ours.items():
        place = inner if node not in result and below else result
        place[node] = _over(place.get(node, {}), parameters)
    if inner:
        result[WILDCARD] = inner
    return result


def write_merged(vendor: Path, ours: Path, out: Path) -> Path:
    """Write the vendor's file overridden by ours to `out` and return it.

    Raises:
        ConfigError: one of them cannot be read.
    """
    text = yaml.safe_dump(merged(read_parameters(vendor), read_parameters(ours)), sort_keys=False)
    out.write_text(text, encoding="utf-8")
    return out


def _over(below: Any, above: Any) -> Any:
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    result: Parameters = dict(below)
    for key, value in above.items():
        result[key] = _over(result[key], value) if key in result else value
    return result
