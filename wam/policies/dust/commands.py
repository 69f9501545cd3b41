# SPDX-License-Identifier: Apache-2.0
"""Commands of DUST: `wam convert gr00t`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from wam.core.clock import NS_PER_S
from wam.policies.dust.convert.gr00t_names import NEW_EMBODIMENT, HeadStart
from wam.policies.task_text import warn_of_task
from wam.policies.unit_options import Units, unit_statements, warn_of_ranges


def gr00t(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="Folder with the safetensors of GR00T-N1-2B.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the new bundle; it must not exist.")],
    vocabulary: Annotated[
        Path | None,
        typer.Option(
            help="Folder with vocab.json and merges.txt of Eagle-2 (gr00t/model/backbone/eagle2_hg_model in the "
            "repository of GR00T-N1); without it SRC is searched.",
            show_default=False,
        ),
    ] = None,
    head: Annotated[
        HeadStart,
        typer.Option(
            help="n1: GR00T-N1 as it is. fresh: a new DUST head on its backbone. from-n1: a DUST head that begins "
            "with its blocks."
        ),
    ] = HeadStart.N1,
    robot: Annotated[
        str | None,
        typer.Option(
            help="Robot file that gives joints and cameras; without it the Franka of the paper.",
            show_default=False,
        ),
    ] = None,
    embodiment: Annotated[
        int, typer.Option(help="Slot of the state and action encoders.", min=0)
    ] = NEW_EMBODIMENT,
    binary_joint: Annotated[
        list[str] | None,
        typer.Option(help="Action joint with two positions; may be repeated.", show_default=False),
    ] = None,
    stats: Annotated[
        Path | None,
        typer.Option(
            help="stats.json of a bundle, or experiment_cfg/metadata.json of GR00T.", show_default=False
        ),
    ] = None,
    tag: Annotated[str, typer.Option(help="Embodiment tag inside metadata.json.")] = "new_embodiment",
    rate: Annotated[
        float | None,
        typer.Option(
            help="Rows per second of the data that it was trained on [Hz].",
            min=0.1,
            show_default="15; with --robot 30",
        ),
    ] = None,
    instruction: Annotated[
        str, typer.Option(help="Task text used when nobody sets another.", show_default=False)
    ] = "",
    units: Units = None,
    seed: Annotated[int, typer.Option(help="Of random weights and of the start noise.")] = 0,
) -> None:
    """Turn a GR00T-N1 checkpoint into a policy bundle: the policy itself, or backbone and start for DUST.

    All 802 tensors must be there with their shapes; mismatched names are listed and nothing is written.

    Example: wam convert gr00t ~/GR00T-N1-2B franka_dust --vocabulary ~/Isaac-GR00T/.../eagle2_hg_model --head fresh
    """
    from wam.models.robot_layout import RobotLayout
    from wam.policies.dust import franka
    from wam.policies.dust.convert.gr00t import Gr00tOptions, convert_gr00t

    stated = unit_statements(units, robot=robot)
    layout = franka.layout() if stated.robot is None else RobotLayout.of(stated.robot)
    layout = replace(
        layout,
        control_period_ns=round(NS_PER_S / rate) if rate else layout.control_period_ns,
        instruction=instruction or layout.instruction,
    )
    binary = tuple(binary_joint or (() if robot else (franka.GRIPPER,)))
    bundle = convert_gr00t(
        source,
        out,
        Gr00tOptions(
            robot=layout,
            embodiment=embodiment,
            binary_joints=binary,
            head=head,
            vocabulary=vocabulary,
            stats=stats,
            tag=tag,
            units=stated,
            seed=seed,
        ),
    )
    warn_of_ranges(bundle, stated)
    warn_of_task(bundle, instruction)
    typer.echo(
        f"{bundle.directory}: {len(bundle.weights.tensors)} tensors, contract {bundle.contract.contract_hash[:12]}"
    )


CONVERT = {"gr00t": gr00t}
"""What `wam convert` adds for this policy."""
