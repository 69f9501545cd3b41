# SPDX-License-Identifier: Apache-2.0
"""Activation recomputation: transformer blocks keep their inputs and compute the rest again in backward."""

from __future__ import annotations

import functools
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from wam.models.layers.dit_block import DitBlock
from wam.policies.aha_wam.ovcr import ContextEditor

_METHODS: tuple[tuple[type[nn.Module], str], ...] = (
    (DitBlock, "before_attention"),
    (DitBlock, "after_attention"),
    (ContextEditor, "edit_layer"),
)


def recompute_blocks(model: nn.Module) -> int:
    """Make every block of a model recompute its inner activations.

    Args:
        model: changed in place; its weights are not touched.

    Returns:
        Number of methods that were wrapped.
    """
    wrapped = 0
    for module in model.modules():
        for kind, name in _METHODS:
            if isinstance(module, kind):
                setattr(module, name, functools.partial(_recomputed, getattr(module, name)))
                wrapped += 1
    return wrapped


def _recomputed(method: Any, *args: Any, **kwargs: Any) -> Any:
    return checkpoint(method, *args, use_reentrant=False, **kwargs)
