# SPDX-License-Identifier: Apache-2.0
"""Names of the released checkpoints, translated to ours and back.

Inside the parts the names are those of Wan, so the translation is a change of prefix. The lists are complete:
a name that no rule covers is reported by the loader.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from wam.core.errors import BundleError
from wam.models.bundle.weights import listed

V = TypeVar("V")

RELEASED_PREFIXES: tuple[tuple[str, str], ...] = (
    ("mot.mixtures.video.", "video."),
    ("mot.mixtures.action.", "action."),
    ("mot.action_branch_embedding", "branch_embedding"),
    ("mot.chunk_kv_cache_editor.", "editor."),
    ("chunk_obs_query_encoder.", "query_encoder."),
    ("action_obs_visual_proj.", "visual_projection."),
    ("proprio_encoder.", "proprio."),
)
"""(released prefix, our prefix), for the nested checkpoint flattened with dots."""


def from_released(name: str) -> str | None:
    """Return our name of a released tensor, or None where no rule covers it."""
    for theirs, ours in RELEASED_PREFIXES:
        if name.startswith(theirs):
            return ours + name[len(theirs) :]
    return None


def to_released(name: str) -> str:
    """Return the released name of one of our tensors.

    Raises:
        ValueError: the name is not one of this network's.
    """
    for theirs, ours in RELEASED_PREFIXES:
        if name.startswith(ours):
            return theirs + name[len(ours) :]
    raise ValueError(f"{name!r} is no tensor of AHA-WAM")


def rename_released(tensors: Mapping[str, V]) -> dict[str, V]:
    """Translate every name of a released checkpoint.

    Raises:
        BundleError: a name is covered by no rule; the text names them.
    """
    renamed = {from_released(name): value for name, value in tensors.items()}
    unknown = sorted(name for name in tensors if from_released(name) is None)
    if unknown:
        raise BundleError(
            f"the checkpoint has {len(unknown)} tensors that AHA-WAM does not have: {listed(unknown)}",
            allowed=f"names that start with {[theirs for theirs, _ in RELEASED_PREFIXES]}",
        )
    return {name: value for name, value in renamed.items() if name is not None}


def require_same_keys(*, have: Iterable[str], want: Iterable[str], what: str) -> None:
    """Demand an exact match of tensor names.

    Raises:
        BundleError: names are missing or left over; the text names them.
    """
    have_set, want_set = set(have), set(want)
    missing, unexpected = sorted(want_set - have_set), sorted(have_set - want_set)
    if missing or unexpected:
        raise BundleError(
            f"{what}: {len(missing)} tensors missing ({listed(missing)}), "
            f"{len(unexpected)} unexpected ({listed(unexpected)})",
            allowed=f"exactly the {len(want_set)} names of the configured network",
            where="the model section of policy.yaml, or the checkpoint",
        )
