# SPDX-License-Identifier: Apache-2.0
"""Golden vectors of DUST: GR00T-N1's head and backbone by their authors' code, and a reading of the paper."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from wam.policies.dust.config import DustConfig, EagleConfig
from wam.policies.dust.convert.gr00t_names import to_ours
from wam.policies.dust.eagle import EagleBackbone
from wam.policies.dust.head import DustHead
from wam.policies.dust.readings import ActionPositions, BlockStyle, Conditioning, HeadLayout

DEFAULT_DIR = Path(__file__).parents[3].parent / "shared" / "parity"
FOLDER = Path(os.environ.get("WAM_PARITY_DIR", DEFAULT_DIR)) / "dust"
PREFIX = "dust_reference_"
PACKS = sorted(path.stem.removeprefix(PREFIX) for path in FOLDER.glob(f"{PREFIX}*.json")) or ["no pack"]
"""One per reading of the paper that the folder has."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Take the lengths of the stored integrations from the folder."""
    if "euler_steps" in metafunc.fixturenames:
        found: list[int] = []
        if (path := FOLDER / "gr00t_tiny_io.safetensors").is_file():
            with safe_open(path, framework="pt") as file:
                names = [re.fullmatch(r"euler(\d+)\.trajectory", name) for name in file.keys()]  # noqa: SIM118
            found = sorted(int(m[1]) for m in names if m)
        metafunc.parametrize("euler_steps", found or [1])


@dataclass(frozen=True)
class Pack:
    """One set of golden vectors, and our network with its weights."""

    info: Mapping[str, Any]
    io: Mapping[str, Tensor]
    net: Any
    config: Any


@pytest.fixture(scope="session")
def directory() -> Path:
    if not FOLDER.is_dir():
        pytest.skip(f"no golden vectors of DUST in {FOLDER}")
    torch.set_num_threads(1)
    return FOLDER


@pytest.fixture(scope="session")
def part(directory: Path) -> Callable[[str], Path]:
    """Names a file of the folder, and skips by its name where it is not there."""

    def find(name: str) -> Path:
        if not (directory / name).exists():
            pytest.skip(f"no {name} in {directory}")
        return directory / name

    return find


@pytest.fixture(scope="session")
def read(part) -> Callable[[str], tuple[Any, dict[str, Tensor], dict[str, Tensor]]]:
    def load(name: str) -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
        info = json.loads(part(f"{name}.json").read_text())
        return info, load_file(part(f"{name}.safetensors")), load_file(part(f"{name}_io.safetensors"))

    return load


@pytest.fixture(scope="session")
def n1(read) -> Pack:
    """GR00T-N1's head: our action stream without a trunk."""
    info, weights, io = read("gr00t_tiny")
    raw, dit = info["config"], info["config"]["diffusion_model_cfg"]
    config = DustConfig(
        heads=dit["num_attention_heads"],
        head_dim=dit["attention_head_dim"],
        mm_layers=0,
        tail_layers=dit["num_layers"],
        hidden=raw["hidden_size"],
        state_dim=raw["max_state_dim"],
        action_dim=raw["action_dim"],
        action_rows=raw["action_horizon"],
        embodiments=raw["max_num_embodiments"],
        style=BlockStyle.N1,
        layout=HeadLayout.ACTION_ONLY,
        action_positions=ActionPositions.LEARNED,
        max_positions=raw["max_seq_len"],
        tail_dropout=dit["dropout"],
        mask_features=False,
    )
    head = DustHead(config).eval()
    head.load_state_dict({to_ours(f"action_head.{k}").removeprefix("head."): v for k, v in weights.items()})
    return Pack(info, io, head, config)


@pytest.fixture(scope="session")
def eagle(read) -> Pack:
    """GR00T-N1's backbone."""
    info, weights, io = read("eagle_tiny")
    s = info["sizes"]
    config = EagleConfig(
        image_size=s["img"],
        patch=s["patch"],
        vision_width=s["vh"],
        vision_layers=s["vl"],
        vision_heads=s["vheads"],
        vision_ffn=s["vff"],
        language_width=s["lh"],
        language_layers=s["keep"],
        language_heads=s["lheads"],
        language_ffn=s["lff"],
        vocabulary=s["vocab"],
        image_token=info["image_token_id"],
        rope_theta=info["rope_theta"],
    )
    net = EagleBackbone(config, feature_width=s["out"]).eval()
    net.load_state_dict({to_ours(f"backbone.{k}").removeprefix("backbone."): v for k, v in weights.items()})
    return Pack(info, io, net, config)


@pytest.fixture(scope="session", params=PACKS)
def dust(request: pytest.FixtureRequest, read) -> Pack:
    """The head under one reading of the paper; the first is ours by default."""
    info, weights, io = read(f"{PREFIX}{request.param}")
    c = info["cfg"]
    config = DustConfig(
        heads=c["heads"],
        head_dim=c["head_dim"],
        mm_layers=c["n_mm"],
        tail_layers=c["n_tail"],
        hidden=c["hidden"],
        state_dim=c["state_dim"],
        action_dim=c["action_dim"],
        action_rows=c["horizon"],
        embodiments=c["n_emb"],
        grid=c["grid"],
        style=BlockStyle(c["style"]),
        conditioning=Conditioning(c["vlm"]),
        shared_time=c["shared_time"],
        eagle=EagleConfig(
            image_size=2 * c["grid"],
            patch=1,
            vision_width=c["d_obs"],
            vision_heads=1,
            language_width=c["d_obs"],
            language_heads=1,
        ),
    )
    head = DustHead(config).eval()
    head.load_state_dict(weights)
    return Pack(info, io, head, config)
