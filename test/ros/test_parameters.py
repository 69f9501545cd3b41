# SPDX-License-Identifier: Apache-2.0
"""Parameters declared once as dataclass fields: types, ranges, required values, refused changes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from rclpy.node import Node
from rclpy.parameter import Parameter

from wam.core.errors import ConfigError
from wam.ros.parameters import declare, parameter, refuse_changes


@dataclass(frozen=True, slots=True)
class Example:
    """One field of every kind."""

    robot: str = parameter(description="robot file")
    lead: float = parameter(0.04, description="lead", unit="s", lower=0.0, upper=0.2)
    threads: int = parameter(1, description="threads", lower=1, upper=8)
    mode: str = parameter("auto", description="mode", choices=("auto", "manual"))
    dry_run: bool = parameter(True, description="send nothing")
    filters_off: tuple[str, ...] = parameter((), description="filters switched off by name")


def node_with(**values: object) -> Node:
    return Node(
        "example", parameter_overrides=[Parameter(name, value=value) for name, value in values.items()]
    )


def test_defaults_and_given_values_arrive_typed(ros: None) -> None:
    node = node_with(robot="piper", threads=3, filters_off=["jump"])
    values = declare(node, Example)
    assert values == Example(robot="piper", threads=3, filters_off=("jump",))
    node.destroy_node()


def test_a_required_parameter_that_is_missing_is_named(ros: None) -> None:
    node = node_with()
    with pytest.raises(ConfigError, match=r"parameter robot is required.*parameter `robot` of node /example"):
        declare(node, Example)
    node.destroy_node()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"lead": 0.5}, r"parameter lead is out of range.*0\.0 \.\. 0\.2 s"),
        ({"lead": -0.1}, "parameter lead is out of range"),
        ({"threads": 9}, r"parameter threads is out of range.*1 \.\. 8"),
        ({"threads": "two"}, "parameter threads has the wrong type"),
        ({"mode": "often"}, "parameter mode: got 'often'; allowed: one of auto, manual"),
    ],
)
def test_an_illegal_value_is_refused_with_what_is_allowed(
    ros: None, values: dict[str, object], text: str
) -> None:
    node = node_with(robot="piper", **values)
    with pytest.raises(ConfigError, match=text):
        declare(node, Example)
    node.destroy_node()


def test_every_parameter_is_described_with_unit_and_range(ros: None) -> None:
    node = node_with(robot="piper")
    declare(node, Example)
    lead = node.describe_parameter("lead")
    assert "[s]" in lead.description
    assert lead.floating_point_range[0].to_value == 0.2
    assert "one of auto, manual" in node.describe_parameter("mode").description
    node.destroy_node()


def test_a_change_at_run_time_is_refused_with_a_reason(ros: None) -> None:
    node = node_with(robot="piper")
    declare(node, Example)
    refuse_changes(node, Example)
    (result,) = node.set_parameters([Parameter("lead", value=0.1)])
    assert not result.successful
    assert "read at configure only" in result.reason
    assert node.get_parameter("lead").value == 0.04
    node.destroy_node()


def test_declaring_twice_gives_the_same_values(ros: None) -> None:
    node = node_with(robot="piper")
    assert declare(node, Example) == declare(node, Example)
    node.destroy_node()
