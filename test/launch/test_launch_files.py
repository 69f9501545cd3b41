# SPDX-License-Identifier: Apache-2.0
"""Launch files: one schema, real executables, vendor files with the vendor's own argument names."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from setuptools import find_packages

from wam.core.errors import ConfigError
from wam_bringup.launch_schema import ARGUMENTS, BOOLEAN, DRIVERS, piper_drivers

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))
DEFAULTS = {argument.name: argument.default for argument in ARGUMENTS}


def test_hardware_does_not_move_unless_it_is_asked_to() -> None:
    assert DEFAULTS["dry_run"] == "true"
    assert DEFAULTS["simulate"] == "false"


@pytest.mark.parametrize("argument", ARGUMENTS, ids=lambda argument: argument.name)
def test_an_argument_is_described_and_its_default_is_legal(argument: Any) -> None:
    assert len(argument.description) > 10
    assert not argument.choices or argument.default in argument.choices
    assert argument.default not in BOOLEAN or argument.choices == BOOLEAN


def test_each_piper_driver_gets_its_own_can_interface_and_namespace() -> None:
    left, right = piper_drivers({**DEFAULTS, "can_ports": "can0, can1"})
    assert (left.namespace, left.arguments["can_port"]) == ("left", "can0")
    assert (right.namespace, right.arguments["can_port"]) == ("right", "can1")


@pytest.mark.parametrize("ports", ["", "can0", "can0,can0", "a,b,c"])
def test_can_ports_that_are_not_two_different_ones_are_refused(ports: str) -> None:
    with pytest.raises(ConfigError, match="two different CAN interfaces"):
        piper_drivers({**DEFAULTS, "can_ports": ports})


def test_a_mock_that_the_vendor_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="piper_ros has no mock hardware"):
        piper_drivers({**DEFAULTS, "use_mock_hardware": "true"})


def test_every_robot_of_the_schema_has_a_file_and_a_launch_file() -> None:
    for robot in DRIVERS:
        assert (ROOT / "config" / "robots" / f"{robot}.yaml").is_file()
        assert (ROOT / "launch" / f"{robot}.launch.py").is_file()


def walk(entity: Any, context: Any) -> list[Any]:
    """Return every action that a launch description would start, with includes and groups opened."""
    from launch.actions import OpaqueFunction
    from launch_ros.actions import Node

    found: list[Any] = []
    for child in getattr(entity, "entities", entity):
        if isinstance(child, Node):
            found.append(child)
        elif isinstance(child, OpaqueFunction):
            found += walk(child.execute(context) or [], context)
        else:
            if hasattr(child, "execute"):
                child.execute(context)
            found += walk(getattr(child, "actions", []), context)
    return found


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_a_launch_file_starts_executables_that_exist(path: Path) -> None:
    launch = pytest.importorskip(
        "launch", reason="launch is not installed (not on PyPI; part of a ROS 2 distribution)"
    )
    pytest.importorskip("launch_ros", reason="launch_ros is not installed (part of a ROS 2 distribution)")
    context = launch.LaunchContext()
    context.launch_configurations["launch_driver"] = "false"
    description = runpy.run_path(str(path))["generate_launch_description"]()
    nodes = walk(description, context)
    packages = set(find_packages(str(ROOT)))
    executables = {node.node_executable for node in nodes}
    assert executables <= packages
    assert "wam_safety_node" in executables
    assert "wam_bringup" in executables
