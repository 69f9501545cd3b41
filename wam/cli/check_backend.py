# SPDX-License-Identifier: Apache-2.0
"""`wam check-backend`: judge a backend on this device against the eager stages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from wam.policies.backend_check import BackendCheck

EXIT_REFUSED = 2


def check_backend(
    policy: Annotated[
        str,
        typer.Argument(
            metavar="POLICY", help="Directory of a bundle, name of one that ships, or KIND/random."
        ),
    ],
    device: Annotated[
        str, typer.Option(help="Device of the policy: cpu, cuda:0, or auto for the best there is.")
    ] = "auto",
    backend: Annotated[
        str,
        typer.Option(
            help="Backend to judge: auto (what a node would take), eager, cuda_graph, onnxruntime or tensorrt."
        ),
    ] = "auto",
    export: Annotated[
        bool,
        typer.Option("--export", help="First do what wam export does for this device."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Load a policy on a backend and compare every stage with the eager one, as a node does before it is active.

    Each stage gets the inputs of warm-up, three sets of random ones, and each input changed alone: a backend that
    ignores an input, mixes up layers or has taken an input for a constant is refused. What may differ is calibrated by
    what rounding the stage's inputs does.

    Exit codes: 0 every stage passed, 1 could not run, 2 the backend computes something else.

    A stage that auto leaves to the eager backend says why: not exported, damaged, exported from other weights or with
    another version, refused before.

    Examples: wam check-backend bundles/aha_wam --device cuda:0, wam check-backend bundles/aha_wam --export
    """
    from wam.policies.backend_check import check_backend as check
    from wam.policies.bundles import choose_device
    from wam.policies.stage_export import export_stages

    chosen = choose_device(device)
    if export:
        export_stages(policy, device=chosen)
    result = check(policy, device=chosen, backend=backend)
    if as_json:
        typer.echo(json.dumps(result.as_json(), indent=2, ensure_ascii=False))
    else:
        show(Console(), result)
    if not result.passed:
        raise typer.Exit(EXIT_REFUSED)


def show(console: Console, result: BackendCheck) -> None:
    """Print what runs every stage, and what the gate found."""
    console.print(f"{escape(result.policy)} on {result.device}, backend {result.backend}", highlight=False)
    for stage in result.stages:
        console.print(f"  {stage.stage}: {escape(str(stage))}", highlight=False, soft_wrap=True)
    if not result.verdicts and not result.fault:
        console.print("nothing to compare: its stages run as they are written")
        return
    table = Table("stage", "comparisons", "largest difference", "allowed", "on", "", box=None)
    for verdict in result.verdicts:
        worst = verdict.worst
        table.add_row(
            verdict.stage,
            str(len(verdict.comparisons)),
            f"{worst.difference:.2g}",
            f"{worst.allowed:.2g}",
            worst.case,
            "pass" if verdict.passed else "[red]FAIL[/red]",
        )
    console.print(table)
    if result.fault:
        console.print(f"[red]{escape(result.fault)}[/red]", soft_wrap=True)
