# SPDX-License-Identifier: Apache-2.0
"""A missing module is answered with the extra that brings it."""

from __future__ import annotations

import pytest

from wam.core.errors import MissingDependency
from wam.core.extras import missing, remedy


@pytest.mark.parametrize(
    ("module", "verb", "command"),
    [
        ("torch", "", "pip install 'wam_deploy[replay]'"),
        ("torch", "replay", "pip install 'wam_deploy[replay]'"),
        (
            "torch.nn",
            "eval",
            "pip install 'wam_deploy[sim]'",
        ),  # which has MuJoCo as well: one installation, not two
        ("torch", "train", "pip install 'wam_deploy[train]'"),
        ("mujoco", "replay", "pip install 'wam_deploy[sim]'"),
        ("cryptography", "secure", "pip install 'wam_deploy[security]'"),
        ("numpy", "eval", "pip install wam_deploy"),
    ],
)
def test_a_module_of_an_extra_is_installed_by_it(module: str, verb: str, command: str) -> None:
    assert remedy(module, verb=verb) == command


@pytest.mark.parametrize("module", ["rclpy", "sensor_msgs", "launch_ros"])
def test_what_ros_brings_is_not_to_be_had_by_an_extra(module: str) -> None:
    assert "make setup" in remedy(module)
    assert "distribution" in remedy(module)
    assert "pip" not in remedy(module)


def test_our_own_messages_are_built() -> None:
    assert "tools/colcon_build.sh" in remedy("wam_msgs")


def test_the_error_says_who_needs_what() -> None:
    error = missing("kinematics need Pinocchio", "pinocchio")
    assert isinstance(error, MissingDependency)
    assert str(error) == "kinematics need Pinocchio, which is not installed; pip install wam_deploy"
