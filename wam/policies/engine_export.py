# SPDX-License-Identifier: Apache-2.0
"""Exports the stages of a policy for a build of engines.

    python -m wam.policies.engine_export BUNDLE FOLDER DEVICE PRECISION [STAGE ...]

is the child process in which `wam build-engine` does it: its weights are gone from the GPU before the first engine is
built. PRECISION is float32, bfloat16 or float16.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import torch

from wam.core.errors import WamError
from wam.models.backends.engine_export import EngineExport, ExportedStages
from wam.models.bundle import open_bundle
from wam.policies.bundles import load_policy


def export_for_engines(
    directory: Path,
    folder: Path,
    *,
    device: torch.device | str,
    precision: torch.dtype,
    stages: Collection[str] = (),
) -> ExportedStages:
    """Export the stages of a bundle's policy, with their weights, and return what was written.

    Args:
        directory: of the bundle.
        folder: where to.
        device: where the policy is loaded.
        precision: of weights and arithmetic.
        stages: names; empty takes all that have few sets of shapes.

    Raises:
        BundleError: the bundle cannot be loaded, or has no such stage.
    """
    native = getattr(torch, open_bundle(directory).manifest.dtype)
    plan = EngineExport(folder, chosen=stages)
    load_policy(directory, device=device, dtype=precision, backend=plan)
    if precision == native:
        return plan.exported
    # Engines are found by the weights that a node has loaded, which are the bundle's.
    own = EngineExport(folder, chosen=stages, graphs=False)
    load_policy(directory, device=device, backend=own)
    return plan.with_parameters(own.digests)


def main(arguments: Sequence[str] | None = None) -> int:
    """Export the bundle that the command line names."""
    directory, folder, device, precision, *stages = sys.argv[1:] if arguments is None else arguments
    try:
        written = export_for_engines(
            Path(directory), Path(folder), device=device, precision=getattr(torch, precision), stages=stages
        )
    except WamError as error:
        print(error, file=sys.stderr)
        return 1
    written.write(Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
