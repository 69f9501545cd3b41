# SPDX-License-Identifier: Apache-2.0
"""Refuses values that are not finite and names the place where they arose."""

from __future__ import annotations

import torch
from torch import Tensor

from wam.core.errors import PolicyFault


def all_finite(*tensors: Tensor) -> bool:
    """Return whether every number is finite; reads the device once for all tensors."""
    return bool(torch.stack([torch.isfinite(t).all() for t in tensors]).all())


def require_finite(tensor: Tensor, *, what: str) -> None:
    """Refuse a tensor.

    Raises:
        PolicyFault: a number is not finite.
    """
    if not all_finite(tensor):
        raise PolicyFault(
            f"{what} is not finite", where="the weights, the precision or the input of the policy"
        )


def require_finite_layers(stacked: Tensor, *, what: str) -> None:
    """Refuse a tensor whose first axis counts layers.

    Raises:
        PolicyFault: a number is not finite; the text names the first layer.
    """
    if all_finite(stacked):
        return
    good = torch.isfinite(stacked).flatten(1).all(dim=1).tolist()
    raise PolicyFault(
        f"{what} of layer {good.index(False)} is not finite",
        where="the weights, the precision or the input of the policy",
    )
