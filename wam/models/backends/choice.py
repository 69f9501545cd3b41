# SPDX-License-Identifier: Apache-2.0
"""The backend that runs a policy's stages, by name and device."""

from __future__ import annotations

import torch

from wam.core.errors import BundleError
from wam.models.backends.backend import CUDA_GRAPH_NAME, EAGER_NAME, Backend, Eager
from wam.models.backends.cuda_graph import CudaGraphs
from wam.runtime.policy import BACKENDS


def choose_backend(name: str, *, device: torch.device | str) -> Backend:
    """Return the backend of that name; "auto" takes CUDA graphs on a GPU, eager stages elsewhere.

    Raises:
        BundleError: there is none of that name, or it does not run on this device.
    """
    if name not in BACKENDS:
        raise BundleError("backend", value=name, allowed=", ".join(BACKENDS), where="the parameter `backend`")
    on_gpu = torch.device(device).type == "cuda"
    if name == CUDA_GRAPH_NAME and not on_gpu:
        raise BundleError(
            f"the backend {name} needs a CUDA device",
            value=str(device),
            allowed="cuda, cuda:0, ...",
            where="the parameters `backend` and `device`",
        )
    if name == EAGER_NAME or not on_gpu:
        return Eager()
    return CudaGraphs()
