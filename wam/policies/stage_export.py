# SPDX-License-Identifier: Apache-2.0
"""Exports the stages of a policy for ONNX Runtime: into the user's cache, keyed by contract, weights and versions.

    python -m wam.policies.stage_export BUNDLE DEVICE

is the child process in which a loading policy does it, so that a crash or a leak of the exporter stays there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from wam.core.errors import BundleError, WamError
from wam.models.backends.backend import ONNX_RUNTIME_NAME
from wam.models.robot_layout import RobotLayout
from wam.policies.bundles import cache_folder, load_policy, open_policy
from wam.policies.export import export_plan
from wam.policies.registry import policy_kind


@dataclass(frozen=True, slots=True)
class Export:
    """What an export has written.

    Attributes:
        folder: where the graphs lie, each with its manifest.
        names: of the stages and their sets of shapes.
    """

    folder: Path
    names: tuple[str, ...]


def export_stages(
    policy: str | Path, *, device: torch.device | str = "cpu", robot: RobotLayout | None = None
) -> Export:
    """Export every stage of a policy into the user's cache.

    Args:
        policy: as `load_policy`.
        device: that the graphs are for, and where they are exported.
        robot: as `load_policy`.

    Raises:
        BundleError: as `load_policy`; also where the kind has no exported stages, or a stage cannot be exported.
    """
    bundle = open_policy(policy, robot=robot)
    module = policy_kind(bundle.manifest.kind).load_policy_module()
    if ONNX_RUNTIME_NAME not in module.BACKENDS:
        raise BundleError(
            f"policies of kind {bundle.manifest.kind} have no backend {ONNX_RUNTIME_NAME}",
            allowed=", ".join(module.BACKENDS),
            where="the policy",
        )
    plan, exporter = export_plan(bundle, cache=cache_folder(), device=device)
    load_policy(policy, device=device, backend=plan, robot=robot)
    return Export(exporter.folder, tuple(exporter.written))


def main(arguments: Sequence[str] | None = None) -> int:
    """Export the bundle that the command line names."""
    directory, device = sys.argv[1:] if arguments is None else arguments
    try:
        export_stages(directory, device=device)
    except WamError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
