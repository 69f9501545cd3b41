# SPDX-License-Identifier: Apache-2.0
"""Whether a policy of a name can be loaded, told without importing torch: for launch files as for loading itself."""

from __future__ import annotations

from pathlib import Path

from wam.core.errors import BundleError
from wam.policies.kind import RANDOM, TINY
from wam.policies.registry import registry
from wam.policies.shipped import shipped_bundles


def built_in_kind(policy: str | Path) -> str | None:
    """Return the kind of a built-in bundle with random weights, KIND/random; None for any other name."""
    kind, _, name = str(policy).partition("/")
    table = registry()
    return kind if name in (RANDOM, TINY) and (kind in table.kinds or kind in table.faults) else None


def no_such_policy(policy: str | Path, *, where: str) -> BundleError:
    """Return the error for a name that is neither a directory, nor shipped, nor built in."""
    names = (*shipped_bundles(), *(f"{known}/{RANDOM}" for known in registry().kinds))
    return BundleError(
        "no policy bundle of that name",
        value=str(policy),
        allowed=f"a directory with policy.yaml, or one of {', '.join(names)}",
        where=where,
        known=names,
        by_part=True,
    )
