# SPDX-License-Identifier: Apache-2.0
"""Whether the kernels can run here, found out by name and without importing triton."""

from __future__ import annotations

import importlib.util
import os

import torch

from wam.core.errors import MissingDependency
from wam.core.extras import command_for

INSTALL = command_for("gpu")


def unavailable_because(device: torch.device) -> str | None:
    """Return why the kernels cannot run on `device`, or None where they can.

    Triton's interpreter (TRITON_INTERPRET=1, set before triton is imported) runs them on a processor, for tests.
    """
    if importlib.util.find_spec("triton") is None:
        return f"triton is not installed ({INSTALL})"
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"the kernels run on an NVIDIA GPU, this is {device.type}"
    if device.type == "cuda" and torch.version.hip is not None:
        return "the kernels run on an NVIDIA GPU, this one is AMD's"
    return None


def require(device: torch.device) -> None:
    """Refuse a device on which the kernels cannot run.

    Raises:
        MissingDependency: triton is not installed, or the device is no NVIDIA GPU.
    """
    reason = unavailable_because(device)
    if reason is not None:
        raise MissingDependency(
            "Triton kernels", value=reason, allowed="triton and an NVIDIA GPU", where=INSTALL
        )


def programmatic_launch(device: torch.device) -> bool:
    """Return whether `device` can start a kernel before the one ahead of it has ended (compute capability 9.0)."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)
