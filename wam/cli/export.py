# SPDX-License-Identifier: Apache-2.0
"""`wam export`: write the stages of a policy as ONNX graphs."""

from __future__ import annotations

from typing import Annotated

import typer


def export(
    policy: Annotated[
        str,
        typer.Argument(
            metavar="POLICY", help="Directory of a bundle, name of one that ships, or KIND/random."
        ),
    ],
    device: Annotated[
        str,
        typer.Option(help="Device that the graphs are for: cpu, or cuda:0 for ONNX Runtime on a GPU."),
    ] = "cpu",
) -> None:
    """Write a graph and a manifest of every stage into the user's cache, for the backend onnxruntime.

    A graph holds no weights: it gets those of the policy when it is loaded. It fits this contract, these weights and
    this version of torch, and no others; after a change of any of them, export again.

    TensorRT has graphs of its own, which wam build-engine writes and builds in one go.

    Exit codes: 0 success, 1 could not run.

    Examples: wam export aha_wam/random, wam export bundles/aha_wam --device cuda:0
    """
    from wam.policies.stage_export import export_stages

    written = export_stages(policy, device=device)
    for name in written.names:
        typer.echo(name)
    typer.echo(f"{len(written.names)} graphs in {written.folder}")
