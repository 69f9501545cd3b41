# SPDX-License-Identifier: Apache-2.0
"""Each layer imports without what it must not know, tried in a fresh interpreter that refuses those modules.

import-linter reads the code; this runs it, so an import by name or through a third package is found as well.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

IMPORT_ALL = """
import importlib, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise AssertionError(f"{name} was imported")

refused = set(sys.argv[1].split(","))
optional = {"triton"}
sys.meta_path.insert(0, Refuse())
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in optional:  # what an extra of setup.py brings is absent where it was not asked for
            raise
"""
ROS = ("rclpy", "wam_msgs", "rcl_interfaces", "std_msgs", "sensor_msgs")
NETWORKS = ("torch", "transformers", "diffusers")


def modules(tree: Any, *places: str) -> list[str]:
    """Return the dotted names of all modules below `places` (folders or files)."""
    paths: list[Path] = []
    for place in places:
        path = tree.root / place
        paths += tree.python_files(place) if path.is_dir() else [path]
    names = (str(path.relative_to(tree.root).with_suffix("")).replace("/", ".") for path in paths)
    return sorted(name.removesuffix(".__init__") for name in names)


@pytest.mark.parametrize(
    ("places", "refused"),
    [
        (("wam/core",), (*ROS, *NETWORKS, "scipy", "yaml", "mujoco", "cv2", "typer", "rich")),
        (("wam/robots",), (*ROS, *NETWORKS, "mujoco")),
        (("wam/runtime",), (*ROS, *NETWORKS, "mujoco")),
        (("wam/devices",), (*ROS, *NETWORKS, "mujoco")),
        (("wam/data",), (*ROS, *NETWORKS)),
        (("wam/sim",), (*ROS, *NETWORKS)),
        (("wam/evaluation",), ROS),
        (("wam/models",), ROS),
        (("wam/training",), ROS),
        (("wam/policies",), ROS),
        (("wam/report",), ROS),
        (
            ("wam/cli/main.py", "wam/cli/info.py", "wam/cli/doctor.py"),
            (*ROS, *NETWORKS, "mujoco", "numpy.random"),
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_imports_without(tree: Any, places: tuple[str, ...], refused: tuple[str, ...]) -> None:
    check(tree, modules(tree, *places), refused)


@pytest.mark.ros
@pytest.mark.parametrize(
    "places",
    [
        ("wam/ros",),
        ("wam_safety_node",),
        ("wam_sim_node",),
        ("wam_driver_node",),
        ("wam_planner_node/node.py", "wam_planner_node/parameters.py"),
        ("wam_executor_node/node.py", "wam_executor_node/parameters.py"),
    ],
    ids=lambda places: places[0],
)
def test_imports_without_any_network_library(tree: Any, places: tuple[str, ...]) -> None:
    check(tree, modules(tree, *places), NETWORKS)


def check(tree: Any, names: list[str], refused: tuple[str, ...]) -> None:
    assert names
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, ",".join(refused), *names],
        cwd=tree.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_check_itself_notices_a_refused_module(tree: Any) -> None:
    with pytest.raises(AssertionError, match="numpy was imported"):
        check(tree, ["wam.core.chunk"], ("numpy",))


def test_core_imports_numpy_and_the_standard_library_only(tree: Any) -> None:
    assert set(tree.external_imports("wam/core")) <= {"numpy"}
