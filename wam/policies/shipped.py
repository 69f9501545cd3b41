# SPDX-License-Identifier: Apache-2.0
"""Trained bundles that ship with the package, by the name KIND/NAME. Nothing here imports torch.

A bundle lies in `wam/policies/shipped/KIND/NAME`, with a README.md as its model card: task, training recipe, measured
success.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

SHIPPED_DIR = Path(__file__).with_name("shipped")


def shipped_bundles() -> Mapping[str, Path]:
    """Return name -> directory of every bundle that ships, sorted by name."""
    manifests = sorted(SHIPPED_DIR.glob("*/*/policy.yaml"))
    return {f"{path.parent.parent.name}/{path.parent.name}": path.parent for path in manifests}


def bundle_directory(policy: str | Path) -> Path | None:
    """Return the directory of a bundle.

    Args:
        policy: a directory, or the name of a bundle that ships; a directory comes first.

    Returns:
        None for anything else.
    """
    if str(policy) and Path(policy).is_dir():
        return Path(policy)
    return shipped_bundles().get(str(policy))
