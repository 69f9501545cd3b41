# SPDX-License-Identifier: Apache-2.0
"""Typed access to the members of a `torch.nn.ModuleList`, whose own annotations give plain modules only."""

from __future__ import annotations

from typing import TypeVar, cast

from torch import nn

M = TypeVar("M", bound=nn.Module)


def members(modules: nn.ModuleList, kind: type[M]) -> list[M]:
    """Return the modules of a list that was filled with modules of one kind.

    Args:
        modules: the list; a member may be a wrapper with the same methods, so its class is not compared.
        kind: class of the members.
    """
    return [cast(M, module) for module in modules]
