# SPDX-License-Identifier: Apache-2.0
"""GR00T-N1's backbone, as its authors' code runs it, is ours on transformers' towers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tokenizers import pre_tokenizers
from torch import Tensor

from wam.policies.dust.eagle import pixel_shuffle, pool_target
from wam.policies.dust.prompt import BpeTokenizer, prompt_text, split_added, tokenizer_from_vocabulary

pytestmark = pytest.mark.parity


def close(have: Tensor, want: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(have, want, atol=atol, rtol=0, check_dtype=False)


@torch.no_grad()
def test_every_stage_agrees_on_rows_that_are_not_padding(eagle) -> None:
    io, net = eagle.io, eagle.net
    live = io["in.attention_mask"].bool()
    patches = net.see(io["in.pixel_values"])
    close(patches, io["siglip.last_hidden_state"])
    close(pixel_shuffle(patches), io["pixel_shuffle"])
    close(net.mlp1(pixel_shuffle(patches)), io["mlp1"])
    close(net.read(patches, io["in.input_ids"], live)[live], io["llm.final_norm"][live])
    features = net(io["in.pixel_values"], io["in.input_ids"], live)
    close(features[live], io["backbone_features"][live])


@torch.no_grad()
def test_a_prompt_without_its_padding_gives_the_same_rows(eagle) -> None:
    io, net = eagle.io, eagle.net
    pad, ids = eagle.info["left_padding_row1"], io["in.input_ids"]
    places = (ids == net.config.image_token).sum(1) // net.config.image_tokens
    first, second = places[:2].tolist()
    alone = net(io["in.pixel_values"][first : first + second], ids[1:2, pad:])
    close(alone, io["row1_unpadded.backbone_features"])


@torch.no_grad()
def test_the_world_model_target_is_the_pooled_output_of_the_same_tower(eagle) -> None:
    io = eagle.io
    close(eagle.net.target(io["in.pixel_values"]), io["dust.pooled_target_2x2"])
    hidden = io["siglip.last_hidden_state"]
    side = int(hidden.shape[1] ** 0.5)
    grid = hidden.transpose(1, 2).unflatten(2, (side, side))
    close(pool_target(hidden), F.avg_pool2d(grid, 2).flatten(2).transpose(1, 2), 1e-6)


def run_length(ids: list[int]) -> list[list[int]]:
    out: list[list[int]] = []
    for i in ids:
        if out and out[-1][0] == i:
            out[-1][1] += 1
        else:
            out.append([i, 1])
    return out


def prompts(part):
    rows = json.loads(part("eagle_prompt.json").read_text())["rows"]
    return [(r, prompt_text(r["instruction"], images=r["images"], image_tokens=64)) for r in rows]


def test_prompts_have_the_authors_pieces_in_the_authors_order(part) -> None:
    """Needs no vocabulary: every piece of our text stands where one id of theirs does, and always the same id."""
    words = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    id_of: dict[str, int] = {}
    for row, text in prompts(part):
        ids = [i for i, n in row["ids_run_length"] for _ in range(n)]
        pieces = []
        for piece, added in split_added(text):
            pieces += [piece] if added else [word for word, _span in words.pre_tokenize_str(piece)]
        assert len(pieces) == len(ids) == row["n_tokens"]
        for piece, i in zip(pieces, ids, strict=True):
            assert id_of.setdefault(piece, i) == i, piece
    assert len(set(id_of.values())) == len(id_of)


def test_prompt_ids_agree_with_the_authors_vocabulary(directory: Path, part, tmp_path: Path) -> None:
    vocabulary = Path(os.environ.get("WAM_EAGLE_VOCABULARY", directory / "eagle_vocabulary"))
    if not (vocabulary / "vocab.json").is_file():
        pytest.skip(f"no vocabulary of Eagle-2 in {vocabulary} (WAM_EAGLE_VOCABULARY)")
    tokenizer_from_vocabulary(vocabulary, tmp_path)
    tokenizer = BpeTokenizer(tmp_path)
    for row, text in prompts(part):
        assert run_length(tokenizer.encode(text)) == row["ids_run_length"]
