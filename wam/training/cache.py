# SPDX-License-Identifier: Apache-2.0
"""A name for frozen weights, by which caches of what they compute are told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from torch import Tensor


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 (hex) over names and bytes; of large tensors every 997th number."""
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        flat = tensor.detach().flatten()
        step = 997 if flat.numel() > 1 << 20 else 1
        digest.update(name.encode("utf-8"))
        digest.update(flat[::step].float().cpu().numpy().tobytes())
    return digest.hexdigest()
