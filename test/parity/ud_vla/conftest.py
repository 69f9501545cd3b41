# SPDX-License-Identifier: Apache-2.0
"""Golden vectors of UD-VLA, made by the authors' code, and our decoder with their weights.

Every size, and which scenarios there are, comes from the files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from wam.policies.ud_vla.config import preset
from wam.policies.ud_vla.decoder import UdVlaDecoder
from wam.policies.ud_vla.sequence import SequenceLayout
from wam.policies.ud_vla.tokens import RELEASED

DEFAULT_DIR = Path(__file__).parents[3].parent / "shared" / "parity"
FOLDER = Path(os.environ.get("WAM_PARITY_DIR", DEFAULT_DIR)) / "ud_vla"
VIEWS = ("static", "wrist")
HYBRID = "paper_hybrid"
"""How the packs name the paper's mask."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once per sequence, decoding, training batch or vocabulary that the folder has."""
    info = json.loads((FOLDER / "tiny.json").read_text()) if (FOLDER / "tiny.json").is_file() else {}
    tensors: set[str] = set()
    if info:
        with safe_open(FOLDER / "tiny_io.safetensors", framework="pt") as file:
            tensors = set(file.keys())
    groups = {
        group: {name: value for name, value in info.get(group, {}).items() if isinstance(value, dict)}
        for group in "ABDEF"
    }
    losses = {key for case in groups["D"].values() for key in case["losses"]}
    choices = {
        "any_view": sorted(groups["A"]),
        "tiny_view": sorted(groups["B"]),
        "real_view": sorted(set(groups["A"]) - set(groups["B"])),
        "case": sorted(groups["D"]),
        "weight": sorted({float(key.partition(".w")[2]) for key in losses if ".w" in key}),
        "gradients": sorted((case, run) for case, d in groups["D"].items() for run in d.get("grad_norm", {})),
        # A decaying action probability is a fault of the release that is not reproduced (ud_vla.md B9).
        "decoding": [
            (name, prefix)
            for name, about in sorted(groups["E"].items())
            if "mask_mode" in about and not about["decay"]
            for prefix in (("whole", "kept") if about["mask_mode"].startswith(HYBRID) else ("whole",))
        ],
        "uncacheable": [
            view for view in sorted(groups["B"]) if f"H.{view}.released.initial.hidden_full" in tensors
        ],
        "counts": sorted(k for k in groups["E"].get("mask_count_tables", {}) if k.startswith("code_")),
        "vocabulary": sorted(k for k, f in groups["F"].items() if "scale" in f),
    }
    for name, values in choices.items():
        if name in metafunc.fixturenames:
            ids = [str(v) if not isinstance(v, tuple) else "-".join(v) for v in values]
            metafunc.parametrize(name, values or ["none"], ids=ids or ["none"])


@dataclass(frozen=True)
class Golden:
    """Contents of the packs."""

    info: Mapping[str, Any]
    io: Mapping[str, Tensor]
    directory: Path

    def codes(self, name: str) -> list[Tensor]:
        """Return the image codes of every view of a sequence."""
        return [self.io[f"A.{name}.{view}"] for view in VIEWS if f"A.{name}.{view}" in self.io]

    def layout(self, name: str) -> SequenceLayout:
        grids = tuple((code.shape[0], code.shape[1]) for code in self.codes(name))
        return SequenceLayout(RELEASED, grids, self.info["A"][name]["action_len"])

    def text_len(self, name: str) -> int:
        """Return the sites of BOS and text."""
        return int(self.info["A"][name]["text_len"])

    def prefix(self, name: str) -> Tensor:
        return self.io[f"A.{name}.input_ids"].long()[: -self.layout(name).generated_len]

    def view_of(self, sites: int) -> str:
        """Return the tiny sequence that has so many generated sites."""
        return next(n for n in self.info["B"] if self.layout(n).generated_len == sites)

    @property
    def with_noise(self) -> str:
        """Name of the decoding whose exponential noise is stored."""
        found = [name for name in self.info["E"] if f"E.{name}.q_img" in self.io]
        if not found:
            pytest.skip(f"no decoding with stored noise in {self.directory}")
        return found[0]


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
    if not (FOLDER / "tiny.json").is_file():
        pytest.skip(f"no golden vectors of UD-VLA in {FOLDER}")
    torch.set_num_threads(1)
    info = json.loads((FOLDER / "tiny.json").read_text())
    return Golden(info, load_file(FOLDER / "tiny_io.safetensors"), FOLDER)


@pytest.fixture(scope="session")
def decoder(golden: Golden) -> UdVlaDecoder:
    sizes = golden.info["cfg"]
    config = replace(
        preset("tiny"),
        hidden=sizes["hidden"],
        layers=sizes["layers"],
        heads=sizes["heads"],
        kv_heads=sizes["kv"],
        ffn=sizes["ffn"],
        max_positions=sizes["maxpos"],
        tokens=RELEASED,
    )
    net = UdVlaDecoder(config).eval()
    weights = load_file(golden.directory / "tiny_small.safetensors")
    size = (RELEASED.vocab_size, config.hidden)
    weights["model.embed_tokens.weight"] = hashed(*size, golden.info["weights"]["embed_salt"])
    weights["lm_head.weight"] = hashed(*size, golden.info["weights"]["head_salt"])
    net.lm.load_state_dict(weights, strict=True)
    return net
