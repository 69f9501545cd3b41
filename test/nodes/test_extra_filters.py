# SPDX-License-Identifier: Apache-2.0
"""Safety filters of other packages through the configure transition of the safety node."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from keep_out import install_keep_out

os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 101 + 1))

rclpy = pytest.importorskip("rclpy", reason="rclpy is not installed (make setup)")
pytest.importorskip("wam_msgs.msg", reason="wam_msgs is not built (make setup)")

from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from wam.runtime.safety.filters import ChainOptions  # noqa: E402
from wam_safety_node.node import SafetyNode  # noqa: E402

pytestmark = pytest.mark.ros


@pytest.fixture
def make_node() -> Iterator[Callable[..., SafetyNode]]:
    rclpy.init(args=[])
    made: list[SafetyNode] = []

    def make(**parameters: Any) -> SafetyNode:
        values = {"robot": "piper", **parameters}
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        made.append(SafetyNode(parameter_overrides=overrides))
        return made[-1]

    yield make
    for node in made:
        node.trigger_shutdown()
        node.destroy_node()
    rclpy.try_shutdown()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return install_keep_out(tmp_path, monkeypatch)


def test_a_filter_of_another_package_is_part_of_the_nodes_chain(
    make_node: Callable[..., SafetyNode], module: str
) -> None:
    node = make_node(extra_filters=[f"{module}:make_keep_out"], filters_off=["jump"])
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS, node.last_error
    assert node.cycle is not None
    assert node.cycle.filters[-1] == "keep_out"
    assert node.cycle.filters_off == ("jump",)


@pytest.mark.parametrize(
    ("factory", "text"),
    [
        ("no_such_module:make", "cannot be imported"),
        (":make_text", "not a Filter"),
        (":absent", "is missing"),
    ],
)
def test_a_path_that_gives_no_filter_refuses_to_configure(
    make_node: Callable[..., SafetyNode], module: str, factory: str, text: str
) -> None:
    path = f"{module}{factory}" if factory.startswith(":") else factory
    node = make_node(extra_filters=[path])
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert text in str(node.last_error)
    assert path in str(node.last_error)


def test_the_options_of_the_chain_are_parameters_that_nobody_changes_while_the_node_runs(
    make_node: Callable[..., SafetyNode], module: str
) -> None:
    node = make_node()
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS, node.last_error
    for field in fields(ChainOptions):
        assert node.has_parameter(field.name), field.name
    (answer,) = node.set_parameters([Parameter("extra_filters", value=[f"{module}:make_idle"])])
    assert not answer.successful
    assert "extra_filters" in answer.reason
