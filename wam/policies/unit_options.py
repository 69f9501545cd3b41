# SPDX-License-Identifier: Apache-2.0
"""Command-line options by which converters are told the units of a checkpoint's columns, and their warning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from wam.policies.units import PRESETS, UnitStatements

if TYPE_CHECKING:
    from wam.models.bundle import Bundle

Embodiment = Annotated[
    str,
    typer.Option(
        "--embodiment",
        metavar="NAME",
        help=f"Convention of the data: {', '.join(PRESETS)}. Without it: rad, m.",
        show_default=False,
    ),
]
Units = Annotated[
    Path | None,
    typer.Option(
        "--units",
        metavar="FILE",
        help="YAML with unit, scale, offset and sign of columns that are not in SI units; overrides the embodiment.",
        show_default=False,
    ),
]
Robot = Annotated[
    str,
    typer.Option(
        "--robot",
        help="Robot file that the policy is for: a fraction refers to its ranges, and its limits are compared.",
        show_default=False,
    ),
]


def unit_statements(units: Path | None, *, embodiment: str = "", robot: str | None = None) -> UnitStatements:
    """Return what the options state.

    Raises:
        ConfigError: there is no such robot, or its files are faulty.
    """
    from wam.devices.loader import load_robot

    return UnitStatements(embodiment, units, load_robot(robot, moves=False) if robot else None)


def warn_of_ranges(bundle: Bundle, stated: UnitStatements) -> None:
    """Tell on stderr which columns of a new bundle the robot will refuse at activation, and which joints never move.

    Nothing without a robot.
    """
    from wam.policies.ranges import STILL, range_faults, still_joints

    if stated.robot is None:
        return
    told = range_faults(bundle, stated.robot)
    if still := still_joints(bundle, stated.robot):
        which = "every joint" if len(still) == len(bundle.contract.state_joints) else ", ".join(still)
        told.append(
            f"at rest in the data, with less than {100 * STILL:g} % of its travel: {which}; not used as it was "
            "recorded, or in other units than stated (wam info shows the ranges)"
        )
    console = Console(stderr=True)
    for one in told:
        console.print(f"[yellow]warning:[/yellow] {escape(one)}", soft_wrap=True)
