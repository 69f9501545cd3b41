# SPDX-License-Identifier: Apache-2.0
"""Reads the Wan 2.2 parts from their original files or from the diffusers layout."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from wam.core.errors import BundleError
from wam.models.container import read_tensors
from wam.policies.aha_wam.config import AhaWamConfig, VaeConfig
from wam.policies.aha_wam.convert.wan_names import dit_from_diffusers, vae_to_diffusers
from wam.policies.aha_wam.key_map import require_same_keys
from wam.policies.aha_wam.vae import collapse
from wam.policies.aha_wam.video_dit import VideoDit


def read_video_dit(path: Path, config: AhaWamConfig) -> dict[str, Tensor]:
    """Read the video DiT under its original names.

    Args:
        path: the directory of the original release, the `transformer` directory of the diffusers layout, or a file.
        config: sizes.

    Returns:
        The tensors of `wam.policies.aha_wam.video_dit.VideoDit`.

    Raises:
        BundleError: names or shapes differ.
    """
    with torch.device("meta"):
        want = {n: t.shape for n, t in VideoDit(config).state_dict().items()}
    tensors = dit_from_diffusers(read_tensors(path), original_names=list(want))
    require_same_keys(have=tensors, want=want, what=f"the video DiT in {path}")
    wrong = [
        f"{n} is {tuple(t.shape)}, not {tuple(want[n])}" for n, t in tensors.items() if t.shape != want[n]
    ]
    if wrong:
        raise BundleError(f"the video DiT in {path} has other sizes: {wrong[:6]}", where="the preset")
    return tensors


def read_vae(path: Path, config: VaeConfig) -> dict[str, Tensor]:
    """Read the VAE under the names of diffusers' `AutoencoderKLWan`.

    Args:
        path: `Wan2.2_VAE.pth`, a converted safetensors file, or the `vae` directory of the diffusers layout.
        config: sizes.

    Raises:
        BundleError: the encoder does not fit.
    """
    tensors = {vae_to_diffusers(n): t for n, t in read_tensors(path).items()}
    collapse(tensors, config)
    return tensors
