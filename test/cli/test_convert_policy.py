# SPDX-License-Identifier: Apache-2.0
"""`wam convert aha-wam` from the command line: options, what is still lacking, and refusals in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from wam.cli.main import run
from wam.models.registry import make_tiny_bundle

WIDTH = 14
OPTIONS = "head_dim: 32\nimage_height: 64\nimage_width: 96\ncameras: [head]\n"


@pytest.fixture
def stats(tmp_path: Path) -> Path:
    """A dataset_stats.json as the release writes it."""
    values: dict[str, Any] = {f"global_{name}": [0.0] * WIDTH for name in ("mean", "q01", "q99")}
    values |= {"global_std": [1.0] * WIDTH, "global_min": [-1.0] * WIDTH, "global_max": [1.0] * WIDTH}
    path = tmp_path / "dataset_stats.json"
    section = {"default": values}
    path.write_text(json.dumps({"state": section, "action": section, "num_episodes": 1, "num_transition": 9}))
    return path


def test_an_unknown_option_is_named_and_nothing_is_written(
    tmp_path: Path, stats: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = tmp_path / "options.yaml"
    options.write_text("headdim: 32\n")
    out = tmp_path / "bundle"
    code = run(["convert", "aha-wam", str(stats), str(stats), str(out), "--options", str(options)])
    assert code == 1
    assert "unknown key: got ['headdim']" in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(
    tmp_path: Path, stats: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = tmp_path / "weights.pt"
    fake.write_bytes(b"not a torch file")
    out = tmp_path / "bundle"
    assert run(["convert", "aha-wam", str(fake), str(stats), str(out)]) == 1
    error = capsys.readouterr().err
    assert "weights.pt" in error
    assert "Traceback" not in error
    assert not out.exists()


def test_text_needs_a_source_of_embeddings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "bundle"
    make_tiny_bundle(made)
    assert run(["convert", "add-text", str(made), "wave"]) == 1
    assert "--encoder or --released-cache" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parity
def test_the_released_container_becomes_a_bundle(
    tmp_path: Path, stats: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    default = Path(__file__).resolve().parents[3] / "shared" / "parity"
    checkpoint = Path(os.environ.get("WAM_PARITY_DIR", default)) / "aha_wam" / "tiny_official.pt"
    if not checkpoint.is_file():
        pytest.skip("golden vectors are absent (WAM_PARITY_DIR)")
    options = tmp_path / "options.yaml"
    options.write_text(OPTIONS + "context_len: 16\nvae: {base_dim: 8, decoder_base_dim: 8}\n")
    out = tmp_path / "bundle"
    command = [
        "convert",
        "aha-wam",
        str(checkpoint),
        str(stats),
        str(out),
        "--options",
        str(options),
        "--json",
    ]
    assert run(command) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["lacks"] == ["the VAE (wam convert add-vae)", "text embeddings (wam convert add-text)"]
    names = torch.load(checkpoint, weights_only=True)["mot"]
    assert facts["tensors"] >= len(names)
