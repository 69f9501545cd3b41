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
from wam.policies.bundles import make_tiny_bundle

WIDTH = 14


def dataset_stats(path: Path, *, state: int, action: int) -> Path:
    """Write a dataset_stats.json as the release does."""

    def section(width: int) -> dict[str, Any]:
        values: dict[str, Any] = {f"global_{name}": [0.0] * width for name in ("mean", "q01", "q99")}
        values |= {"global_std": [1.0] * width, "global_min": [-1.0] * width, "global_max": [1.0] * width}
        return {"default": values}

    sections = {"state": section(state), "action": section(action)}
    path.write_text(json.dumps({**sections, "num_episodes": 1, "num_transition": 9}))
    return path


@pytest.fixture
def stats(tmp_path: Path) -> Path:
    return dataset_stats(tmp_path / "dataset_stats.json", state=WIDTH, action=WIDTH)


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
    make_tiny_bundle(made, "aha_wam")
    assert run(["convert", "add-text", str(made), "wave"]) == 1
    assert "--encoder or --released-cache" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parity
def test_the_released_container_becomes_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    default = Path(__file__).resolve().parents[3] / "shared" / "parity"
    folder = Path(os.environ.get("WAM_PARITY_DIR", default)) / "aha_wam"
    checkpoint = folder / "tiny_official.pt"
    if not checkpoint.is_file():
        pytest.skip("golden vectors are absent (WAM_PARITY_DIR)")
    sizes = json.loads((folder / "tiny.json").read_text())["config"]
    stats = dataset_stats(
        tmp_path / "dataset_stats.json", state=sizes["proprio_dim"], action=sizes["action_dim"]
    )
    told = {
        "head_dim": sizes["video_dit_config"]["attn_head_dim"],
        "image_height": sizes["image_hw"][0],
        "image_width": sizes["image_hw"][1],
        "cameras": ["head"],
        "state_joints": [f"state_{i}" for i in range(sizes["proprio_dim"])],
        "action_joints": [f"action_{i}" for i in range(sizes["action_dim"])],
        "context_len": sizes["context_len"],
        "chunk_rows": sizes["action_chunk_size"],
        "horizon_rows": sizes["action_horizon"],
        "memory_window": sizes["num_history_frames"],
        "vae": {"base_dim": sizes["vae_config"]["dim"], "decoder_base_dim": sizes["vae_config"]["dec_dim"]},
    }
    options = tmp_path / "options.yaml"
    options.write_text(json.dumps(told))
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
