# SPDX-License-Identifier: Apache-2.0
"""Exports the stages of a policy for ONNX Runtime: into the user's cache, keyed by contract, weights and versions.

    python -m wam.policies.stage_export BUNDLE

is the child process in which a loading policy does it, so that a crash or a leak of the exporter stays there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from wam.core.errors import BundleError, WamError
from wam.models.backends.backend import ONNX_RUNTIME_NAME
from wam.models.robot_layout import RobotLayout
from wam.policies.bundles import cache_folder, load_policy, open_policy
from wam.policies.export import export_plan
from wam.policies.registry import policy_kind


def export_stages(policy: str | Path, *, robot: RobotLayout | None = None) -> tuple[str, ...]:
    """Export every stage of a policy into the user's cache and return their names.

    Args:
        policy: as `load_policy`.
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
    plan, exporter = export_plan(bundle, cache=cache_folder())
    load_policy(policy, backend=plan, robot=robot)
    return tuple(exporter.written)


def main(arguments: Sequence[str] | None = None) -> int:
    """Export the bundle that the command line names."""
    (directory,) = sys.argv[1:] if arguments is None else arguments
    try:
        export_stages(directory)
    except WamError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
