# SPDX-License-Identifier: Apache-2.0
"""Golden vectors of AHA-WAM: a tiny model run by the authors' code; every size comes from its `tiny.json`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from wam.policies.aha_wam.config import AhaWamConfig, ExpertConfig, VaeConfig
from wam.policies.aha_wam.convert.wan_names import vae_to_diffusers
from wam.policies.aha_wam.key_map import rename_released
from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.vae import FrameEncoder, collapse

DEFAULT_DIR = Path(__file__).parents[3].parent / "shared" / "parity"


@dataclass(frozen=True)
class Golden:
    """The folder's content, and our network with its weights."""

    directory: Path
    info: Mapping[str, Any]
    io: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    config: AhaWamConfig
    model: AhaWam
    vae: FrameEncoder

    def part(self, name: str) -> Path:
        """Name a file of the folder; skip by its name where it is not there."""
        if not (self.directory / name).is_file():
            pytest.skip(f"no {name} in {self.directory}")
        return self.directory / name

    @property
    def prefills(self) -> int:
        return len(self.io["A.frame_index"])

    @property
    def chunks(self) -> int:
        return int(self.info["config"]["robotwin_chunks_per_video_prefill"])

    @property
    def steps(self) -> int:
        return len(next(v for k, v in sorted(self.io.items()) if k.endswith(".t_steps")))

    def samplers(self, prefix: str) -> dict[str, tuple[int, float]]:
        """Return the tensors named `prefix` n STEPS [_shift SHIFT] -> steps and shift of that sampler."""
        pattern = re.compile(re.escape(prefix) + r"n(\d+)(?:_shift([\d.]+))?")
        found = {name: pattern.fullmatch(name) for name in self.io}
        return {n: (int(m[1]), float(m[2] or self.config.infer_shift)) for n, m in found.items() if m}

    @property
    def vae_state(self) -> dict[str, Tensor]:
        return {
            vae_to_diffusers(k.removeprefix("vae.")): v
            for k, v in self.weights.items()
            if k.startswith("vae.")
        }


def _expert(raw: Mapping[str, Any]) -> ExpertConfig:
    return ExpertConfig(
        layers=raw["num_layers"],
        width=raw["hidden_dim"],
        ffn=raw["ffn_dim"],
        heads=raw["num_heads"],
        head_dim=raw["attn_head_dim"],
        freq_dim=raw["freq_dim"],
        eps=raw["eps"],
    )


def config_from(raw: Mapping[str, Any]) -> AhaWamConfig:
    return AhaWamConfig(
        video=_expert(raw["video_dit_config"]),
        action=_expert(raw["action_dit_config"]),
        text_dim=raw["text_dim"],
        context_len=raw["context_len"],
        state_dim=raw["proprio_dim"],
        action_dim=raw["action_dim"],
        image_height=raw["image_hw"][0],
        image_width=raw["image_hw"][1],
        patch=raw["video_dit_config"]["patch_size"][1],
        queries=raw["num_queries"],
        memory_window=raw["num_history_frames"],
        temporal_stride=raw["video_rope_frame_stride"],
        chunk_rows=raw["action_chunk_size"],
        horizon_rows=raw["action_horizon"],
        train_shift=raw["train_shift"],
        infer_shift=raw["infer_shift"],
        vae=VaeConfig(
            base_dim=raw["vae_config"]["dim"],
            decoder_base_dim=raw["vae_config"]["dec_dim"],
            z_dim=raw["vae_config"]["z_dim"],
        ),
    )


@pytest.fixture(scope="session")
def golden() -> Golden:
    directory = Path(os.environ.get("WAM_PARITY_DIR", DEFAULT_DIR)) / "aha_wam"
    if not (directory / "tiny.json").is_file():
        pytest.skip(f"no golden vectors of AHA-WAM in {directory}")
    torch.set_num_threads(1)
    info = json.loads((directory / "tiny.json").read_text())
    weights = load_file(directory / "tiny.safetensors")
    config = config_from(info["config"])
    model = AhaWam(config).eval().requires_grad_(False)
    ours = {k: v for k, v in weights.items() if not k.startswith(("vae.", "text_encoder."))}
    model.load_state_dict(rename_released(ours), strict=True)
    golden = Golden(
        directory,
        info,
        load_file(directory / "tiny_io.safetensors"),
        weights,
        config,
        model,
        None,  # type: ignore[arg-type]
    )
    object.__setattr__(golden, "vae", collapse(golden.vae_state, config.vae))
    return golden
