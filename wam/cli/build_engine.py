# SPDX-License-Identifier: Apache-2.0
"""`wam build-engine`: compile the stages of a policy with TensorRT for this machine's GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from wam.core.errors import ConfigError

if TYPE_CHECKING:
    from wam.policies.engines import BuiltEngines

EXIT_FAILED = 2


def build_engine(
    policy: Annotated[
        str,
        typer.Argument(
            metavar="POLICY", help="Directory of a bundle, name of one that ships, or KIND/random."
        ),
    ],
    precision: Annotated[
        str,
        typer.Option(help="Of weights and arithmetic: bf16, fp16 or fp32. Default: the bundle's own."),
    ] = "",
    stage: Annotated[
        list[str] | None,
        typer.Option(help="Build this stage only; may be given several times. Default: all but large sets."),
    ] = None,
    refittable: Annotated[
        bool,
        typer.Option(
            "--refittable", help="Engines that take new weights without a new build; may cost speed."
        ),
    ] = False,
    level: Annotated[int, typer.Option(min=0, max=5, help="Effort of TensorRT's search for kernels.")] = 3,
    timeout_s: Annotated[
        float, typer.Option(min=1.0, help="Time limit of the export, and of each build [s].")
    ] = 3600.0,
    device: Annotated[str, typer.Option(help="GPU that the engines are for: cuda:0, ...")] = "cuda:0",
) -> None:
    """Export the stages of a policy, build an engine of each for this GPU, and judge all of them.

    Each build is a child process with a log in ~/.cache/wam/engines/logs. An engine fits this contract, these weights,
    this GPU and this version of TensorRT, and no others. A stage with many sets of shapes (planner_prefill has one for
    each length of the memory) is built only if --stage names it: each of its engines holds all its weights.

    Afterwards the policy is loaded as a node loads it, and every engine is compared with the eager stage.

    Exit codes: 0 every engine was built and passed, 1 could not run, 2 an engine was not built or computes something
    else.

    Examples: wam build-engine bundles/aha_wam, wam build-engine bundles/aha_wam --precision fp16 --stage denoise
    """
    from wam.cli.check_backend import show
    from wam.models.backends.backend import TENSORRT_NAME
    from wam.models.backends.engines import Settings
    from wam.models.backends.gpu import CudaGpu
    from wam.policies.backend_check import check_backend
    from wam.policies.bundles import cache_folder, open_policy, require_device
    from wam.policies.engines import PRECISIONS, BuildOptions, build_engines

    if precision and precision not in PRECISIONS:
        raise ConfigError("precision", value=precision, allowed=", ".join(PRECISIONS), where="--precision")
    if not device.startswith("cuda"):
        raise ConfigError("device", value=device, allowed="cuda, cuda:0, ...", where="--device")
    require_device(device)
    bundle, console = open_policy(policy), Console()
    options = BuildOptions(precision, tuple(stage or ()), Settings(level, refittable), timeout_s)
    made = build_engines(
        bundle,
        cache=cache_folder(),
        gpu=CudaGpu(device),
        options=options,
        told=lambda line: console.print(f"{line} ...", highlight=False),
    )
    _tell(console, made)
    result = check_backend(policy, device=device)
    show(console, result)
    runs = {one.stage for one in result.stages if one.backend == TENSORRT_NAME}
    wanted = {name.rpartition(".")[0] for name in made.built}
    if made.failed or not result.passed or not wanted <= runs:
        raise typer.Exit(EXIT_FAILED)


def _tell(console: Console, made: BuiltEngines) -> None:
    for name, record in made.built.items():
        how = "refitted" if record.refitted else "built"
        console.print(f"  {name}: {how}, {record.size / 1e6:.1f} MB", highlight=False)
    for name, why in (*made.failed.items(), *made.skipped.items()):
        console.print(f"  {name}: not built, {escape(why)}", highlight=False, soft_wrap=True)
