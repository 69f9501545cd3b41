# SPDX-License-Identifier: Apache-2.0
"""Golden vectors of UD-VLA, made by the authors' code, and our decoder with their weights."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from wam.models.ud_vla.config import preset
from wam.models.ud_vla.decoder import UdVlaDecoder
from wam.models.ud_vla.sequence import SequenceLayout
from wam.models.ud_vla.tokens import RELEASED

DEFAULT_DIR = Path(__file__).parents[3].parent / "shared" / "parity"
GRIDS = {
    "two_cam": (((5, 5), (2, 2)), 20),
    "one_cam": (((5, 5),), 20),
    "real_two_cam": (((25, 25), (10, 10)), 70),
    "real_one_cam": (((25, 25),), 72),
}


@dataclass(frozen=True)
class Golden:
    """Contents of the packs."""

    info: Mapping[str, Any]
    io: Mapping[str, Tensor]
    directory: Path

    def layout(self, name: str) -> SequenceLayout:
        grids, action_len = GRIDS[name]
        return SequenceLayout(RELEASED, grids, action_len)

    def prefix(self, name: str) -> Tensor:
        return self.io[f"A.{name}.input_ids"].long()[: -self.layout(name).generated_len]


def hashed(rows: int, columns: int, salt: int) -> Tensor:
    """Return the embedding that the pack describes by an integer hash."""
    word = 0xFFFFFFFF
    h = torch.arange(rows)[:, None] * 2654435761 + torch.arange(columns)[None] * 40503 + salt * 97531
    h = h & word
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & word
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & word
    h = h ^ (h >> 16)
    return ((h >> 8).float() / 2**24 - 0.5) * 2


@pytest.fixture(scope="session")
def golden() -> Golden:
    path = Path(os.environ.get("WAM_PARITY_DIR", DEFAULT_DIR)) / "ud_vla"
    if not (path / "tiny.json").is_file():
        pytest.skip(f"no golden vectors of UD-VLA in {path}")
    torch.set_num_threads(1)
    return Golden(json.loads((path / "tiny.json").read_text()), load_file(path / "tiny_io.safetensors"), path)


@pytest.fixture(scope="session")
def decoder(golden: Golden) -> UdVlaDecoder:
    config = replace(preset("tiny"), tokens=RELEASED, max_positions=1650)
    net = UdVlaDecoder(config).eval()
    weights = load_file(golden.directory / "tiny_small.safetensors")
    size = (RELEASED.vocab_size, config.hidden)
    weights["model.embed_tokens.weight"] = hashed(*size, golden.info["weights"]["embed_salt"])
    weights["lm_head.weight"] = hashed(*size, golden.info["weights"]["head_salt"])
    net.lm.load_state_dict(weights, strict=True)
    return net
