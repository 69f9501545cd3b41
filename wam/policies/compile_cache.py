# SPDX-License-Identifier: Apache-2.0
"""Where it lies what the backend `compile` has made of a policy at an earlier start, and what has failed in one."""

from __future__ import annotations

from pathlib import Path

import torch

from wam.models.backends.compile_cache import CompileCache, compile_versions
from wam.models.backends.quarantine import Quarantine
from wam.models.bundle import Bundle


def warm_cache(bundle: Bundle, *, cache: Path, device: torch.device | str) -> CompileCache:
    """Return what was compiled of a policy for a device, in the user's cache.

    Args:
        bundle: the policy.
        cache: folder of the user's cache.
        device: where it computes.
    """
    contract = bundle.contract.contract_hash
    place = cache / "compiled" / contract[:16] / torch.device(device).type
    return CompileCache(place, made_for=compile_versions(device, contract=contract))


def quarantine_of(bundle: Bundle, *, cache: Path, device: torch.device | str) -> Quarantine:
    """Return what failed of a policy on a device while it ran, in the user's cache; arguments as `warm_cache`."""
    contract = bundle.contract.contract_hash
    place = cache / "failed" / contract[:16] / torch.device(device).type
    return Quarantine(place, made_for=compile_versions(device, contract=contract))
