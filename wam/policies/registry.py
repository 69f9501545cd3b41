# SPDX-License-Identifier: Apache-2.0
"""The table of policy kinds: the folders of `wam.policies`, and the entry points of other installed packages.

Folders of this package are listed even where the package's metadata is older than its source or absent, as in a
checkout on the import path. Nothing here imports torch.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

import wam.policies
from wam.core.errors import BundleError
from wam.policies.kind import PolicyKind

GROUP = "wam.policies"
"""Group of entry points; each names a `PolicyKind`."""
ATTRIBUTE = "POLICY_KIND"
"""Name of the row in the package of a built-in policy."""


@dataclass(frozen=True, slots=True)
class Registry:
    """The policy kinds of this installation.

    Attributes:
        kinds: name -> row, sorted by name.
        faults: name -> why that entry point cannot be used.
    """

    kinds: Mapping[str, PolicyKind]
    faults: Mapping[str, str]


@functools.cache
def registry() -> Registry:
    """Return all policy kinds; an entry point that cannot be used is listed with its fault and hides no other."""
    kinds = _built_in()
    faults: dict[str, str] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda one: (one.name, one.value)):
        try:
            kind = _row(point)
        except (
            Exception
        ) as error:  # a package of somebody else, imported for a list: any fault is only that entry's
            faults[point.name] = f"{point.value}: {type(error).__name__}: {error}"
            continue
        known = kinds.setdefault(kind.name, kind)
        if known != kind:
            faults[point.name] = f"{point.value}: another package already provides {known.policy}"
    return Registry(dict(sorted(kinds.items())), faults)


def policy_kind(name: str) -> PolicyKind:
    """Return a row of the table.

    Raises:
        BundleError: there is none of that name, or its package is faulty.
    """
    table = registry()
    if name in table.kinds:
        return table.kinds[name]
    if name in table.faults:
        raise BundleError(
            f"policies of kind {name!r} cannot be used: {table.faults[name]}",
            where="the package that provides it",
        )
    raise BundleError(
        "policy.yaml: kind",
        value=name,
        known=table.kinds,
        where=f"policy.yaml, or install the package with that entry point of {GROUP}",
    )


def _built_in() -> dict[str, PolicyKind]:
    """Return the rows of the packages in `wam/policies`."""
    rows = {}
    for found in pkgutil.iter_modules(wam.policies.__path__, f"{wam.policies.__name__}."):
        row = getattr(importlib.import_module(found.name), ATTRIBUTE, None) if found.ispkg else None
        if isinstance(row, PolicyKind):
            rows[row.name] = row
    return rows


def _row(point: EntryPoint) -> PolicyKind:
    """Import the row of an entry point.

    Raises:
        TypeError: it names something else.
        ValueError: entry point and row have different names.
    """
    row = point.load()
    if not isinstance(row, PolicyKind):
        raise TypeError(f"a {type(row).__name__}, not a PolicyKind")
    if row.name != point.name:
        raise ValueError(f"the entry point is named {point.name!r}, its kind {row.name!r}")
    return row
