# SPDX-License-Identifier: Apache-2.0
"""Published layouts to bundles, on checkpoints of their layout with tiny sizes."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from wam.core.errors import BundleError
from wam.models.bundle import BundleCamera
from wam.models.normalisation import FieldStats, PolicyStats
from wam.models.robot_layout import RobotLayout
from wam.policies.bundles import load_policy
from wam.policies.ud_vla import ur5e
from wam.policies.ud_vla.config import MaskMode, preset
from wam.policies.ud_vla.convert.ud_vla import ConvertOptions, convert
from wam.policies.ud_vla.fast import FILE_NAME, plain
from wam.policies.ud_vla.initialise import bundle_tensors, random_decoder, random_vision
from wam.policies.ud_vla.text import RankedPairs, byte_ids
from wam.policies.ud_vla.tokens import byte_order


@pytest.fixture(scope="module")
def source(tmp_path_factory, as_published):
    """A decoder in shards, and the image tokenizer beside it."""
    root = tmp_path_factory.mktemp("published")
    config = replace(preset("tiny"), action_len=97, max_positions=400)
    decoder, vision = random_decoder(config, seed=1), random_vision(config, seed=1)
    names = dict(decoder.lm.state_dict())
    (root / "model").mkdir()
    (root / "vq").mkdir()
    half = len(names) // 2
    shards = {}
    for i, part in enumerate((list(names)[:half], list(names)[half:]), start=1):
        file = f"model-0000{i}-of-00002.safetensors"
        save_file({n: names[n].contiguous() for n in part}, root / "model" / file)
        shards.update(dict.fromkeys(part, file))
    (root / "model" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    raw = config.library().to_dict()
    raw["model_type"], raw["architectures"] = "Emu3", ["Emu3MoE"]
    (root / "model" / "config.json").write_text(json.dumps(raw, default=str))
    published = {}
    for name, tensor in vision.vq.state_dict().items():
        projection = re.search(r"\.(q|k|v|out)_proj\.weight$", name)
        published[as_published(name)] = (tensor[:, :, None, None] if projection else tensor).contiguous()
    save_file(published, root / "vq" / "model.safetensors")
    (root / FILE_NAME).write_text(plain(limit=32, scale=11.0).to_json())
    ranks = [f"{base64.b64encode(bytes([b])).decode()} {i}" for i, b in enumerate(byte_order())]
    (root / "emu3.tiktoken").write_text("\n".join(ranks))
    whole = {
        f"model.text_model.{n.removeprefix('model.')}": t for n, t in names.items() if n != "lm_head.weight"
    }
    whole["lm_head.weight"] = names["lm_head.weight"]
    whole.update({f"model.vqmodel.{n}": t for n, t in vision.vq.state_dict().items()})
    (root / "emu3").mkdir()
    save_file({n: t.clone().contiguous() for n, t in whole.items()}, root / "emu3" / "model.safetensors")
    (root / "emu3" / "config.json").write_text(json.dumps({"text_config": raw}, default=str))
    return root, decoder, vision


@pytest.fixture
def options():
    robot: RobotLayout = ur5e.layout()
    stats = robot.stats()
    quantiles = {**stats.action.values, "q01": stats.action.values["min"], "q99": stats.action.values["max"]}
    return ConvertOptions(
        robot=robot,
        stats=PolicyStats(FieldStats(quantiles), FieldStats(quantiles)),
        cameras=(BundleCamera("static", 32, 32), BundleCamera("wrist", 16, 16)),
        mask=MaskMode.HYBRID,
        chunk_rows=8,
        action_len=97,
        tokens=preset("tiny").tokens,
        vision=preset("tiny").vision,
        dtype="float32",
    )


@pytest.mark.parametrize(("kind", "folder"), [("ud-vla", "model"), ("univla", "model"), ("emu3", "emu3")])
def test_a_published_layout_becomes_the_same_weights(source, options, tmp_path, kind, folder):
    root, decoder, vision = source
    bundle = convert(
        kind,
        root / folder,
        tmp_path / "out",
        options=options,
        action_tokenizer=root / FILE_NAME,
        text_ranks=root / "emu3.tiktoken",
        vision=None if kind == "emu3" else root / "vq",
    )
    policy = load_policy(bundle.directory)
    planner = policy.planner
    found = bundle_tensors(planner._decoder, planner._vision)
    for name, tensor in bundle_tensors(decoder, vision).items():
        assert torch.equal(found[name], tensor), name
    assert bundle.manifest.source["layout"] == kind


def test_a_missing_and_an_unknown_tensor_are_named(source, options, tmp_path):
    root, decoder, _ = source
    names = {n: t.contiguous() for n, t in decoder.lm.state_dict().items() if n != "model.norm.weight"}
    names["model.extra.weight"] = torch.zeros(1)
    (tmp_path / "src").mkdir()
    save_file(names, tmp_path / "src" / "model.safetensors")
    (tmp_path / "src" / "config.json").write_bytes((root / "model" / "config.json").read_bytes())
    with pytest.raises(BundleError, match=r"1 missing \['decoder.model.norm.weight'\], 1 unexpected"):
        convert(
            "ud-vla",
            tmp_path / "src",
            tmp_path / "out",
            options=options,
            action_tokenizer=root / FILE_NAME,
            vision=root / "vq",
        )


def test_a_checkpoint_without_an_image_tokenizer_is_refused(source, options, tmp_path):
    root, *_ = source
    with pytest.raises(BundleError, match="no image tokenizer"):
        convert("ud-vla", root / "model", tmp_path / "o", options=options, action_tokenizer=root / FILE_NAME)


def test_the_vocabulary_of_another_tokenizer_is_refused(tmp_path):
    lines = [f"{base64.b64encode(bytes([b])).decode()} {b}" for b in range(256)]
    (tmp_path / "other.tiktoken").write_text("\n".join(lines))
    with pytest.raises(BundleError, match="vocabulary of another tokenizer"):
        RankedPairs(tmp_path / "other.tiktoken")


def test_ranked_pairs_merge_the_lowest_rank_first_and_split_digits(tmp_path):
    tokens = [bytes([b]) for b in byte_order()] + [b"he", b"ll", b"hell", b"12", b" x"]
    lines = [f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(tokens)]
    (tmp_path / "ranks").write_text("\n".join(lines))
    encode = RankedPairs(tmp_path / "ranks")
    assert encode("hello") == [258, *byte_ids("o")]
    assert encode("12") == byte_ids("12")
    assert encode("a x") == [*byte_ids("a"), 260]
