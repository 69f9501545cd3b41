# SPDX-License-Identifier: Apache-2.0
"""Write small checkpoints in the layouts of their authors, to practise the way from a checkpoint to an arm.

    python examples/small_checkpoints.py FOLDER

writes FOLDER/aha_wam, FOLDER/gr00t and FOLDER/ud_vla: the files that a download has, with its names of tensors, random
weights and widths so small that a CPU runs them. The statistics are those of small motions about the home pose of the
robot that each tutorial uses. Such a policy proves nothing but the wiring.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from tokenizers import pre_tokenizers

from wam.devices.loader import load_robot
from wam.models.robot_layout import RobotLayout
from wam.models.text import HashTextEncoder, prompt_key
from wam.policies.aha_wam.config import tiny
from wam.policies.aha_wam.initialise import random_model, random_vae
from wam.policies.aha_wam.key_map import to_released
from wam.policies.aha_wam.policy import RELEASED_TEMPLATE
from wam.policies.dust import franka
from wam.policies.dust.config import DustConfig, EagleConfig
from wam.policies.dust.convert.gr00t_names import to_theirs
from wam.policies.dust.model import DustModel
from wam.policies.dust.prompt import ADDED, IMAGE_CONTEXT
from wam.policies.dust.readings import ActionPositions, BlockStyle, HeadLayout
from wam.policies.ud_vla import ur5e
from wam.policies.ud_vla.config import preset, released_geometry
from wam.policies.ud_vla.fast import FILE_NAME, plain
from wam.policies.ud_vla.initialise import random_decoder, random_vision
from wam.policies.ud_vla.tokens import byte_order

TEXTS = tuple(
    f"Grasp the {thing} by its handles with both hands and carry it onto the grey platform."
    for thing in ("wooden tray", "blue crate")
)
"""Instructions of the simulated task piper_move_large_object, for which the small AHA-WAM has text embeddings."""
SEED = 3
SHARE = 0.02
"""Spread of the statistics, as a share of each joint's travel: the arm stays near its home pose."""


def home_statistics(layout: RobotLayout, robot: str) -> dict[str, list[float]]:
    """Return mean, std, min, max, q01 and q99 of small motions about `home` [rad, m or 1], by joints of `layout`."""
    joints = {joint.name: joint for group in load_robot(robot).groups for joint in group.joints}
    chosen = [joints[name] for name in layout.action_joints]
    mean = np.array([joint.home for joint in chosen])
    std = SHARE * np.minimum(np.array([joint.upper - joint.lower for joint in chosen]), 3.0)
    values = {"mean": mean, "std": std, "min": mean - 3 * std, "max": mean + 3 * std}
    values |= {"q01": mean - 2.3 * std, "q99": mean + 2.3 * std}
    return {name: [round(float(value), 6) for value in row] for name, row in values.items()}


def aha_wam(folder: Path) -> None:
    """Write `small_ahawam.pt`, `dataset_stats.json`, the VAE, text embeddings, and sizes that no file tells."""
    config = tiny()
    model = random_model(config, seed=SEED)
    nested: dict[str, Any] = {"mot": {}, "step": 1, "torch_dtype": str(model.dtype)}
    for name, tensor in model.state_dict().items():
        part, rest = to_released(name).split(".", 1)
        nested.setdefault(part, {})[rest] = tensor
    torch.save(nested, folder / "small_ahawam.pt")
    save_file(random_vae(config.vae, seed=SEED), folder / "Wan2.2_VAE.safetensors")
    found = home_statistics(RobotLayout.of(load_robot("piper")), "piper")
    for index in (6, 13):  # RoboTwin's grippers: 0 closed, 1 open
        for name, row in found.items():
            row[index] = 0.1 if name == "std" else {"mean": 0.6, "min": 0.0, "q01": 0.1}.get(name, 1.0)
    columns = {"default": {f"global_{name}": row for name, row in found.items()}}
    stats = {"state": columns, "action": columns, "num_episodes": 1, "num_transition": 100}
    (folder / "dataset_stats.json").write_text(json.dumps(stats))
    sizes = {
        "image_height": config.image_height,
        "image_width": config.image_width,
        "head_dim": config.video.head_dim,
        "context_len": config.context_len,
        "vae": {k: v for k, v in asdict(config.vae).items() if k in ("base_dim", "decoder_base_dim")},
    }
    (folder / "sizes.yaml").write_text(yaml.safe_dump(sizes))
    encoder = HashTextEncoder(text_len=config.context_len, width=config.text_dim)
    (folder / "text_cache").mkdir()
    for text in TEXTS:
        prompt = RELEASED_TEMPLATE.replace("{task}", text)
        rows = encoder.embed(prompt)
        name = f"{prompt_key(prompt)}.t5_len{config.context_len}.wan22ti2v5b.pt"
        torch.save({"context": rows, "mask": rows.abs().sum(1) > 0}, folder / "text_cache" / name)


def gr00t(folder: Path) -> None:
    """Write the safetensors, Eagle-2's vocabulary and `experiment_cfg/metadata.json` of a GR00T-N1 for the Franka."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    eagle = EagleConfig(
        image_size=28,
        patch=7,
        vision_width=72,
        vision_layers=2,
        vision_heads=1,
        vision_ffn=40,
        language_width=64,
        language_layers=2,
        language_heads=1,
        language_ffn=56,
        vocabulary=len(letters) + len(ADDED) + 4,
        image_token=len(letters) + ADDED.index(IMAGE_CONTEXT),
    )
    config = DustConfig(
        heads=1,
        mm_layers=0,
        tail_layers=4,
        hidden=20,
        grid=eagle.side // 2,
        views=2,
        style=BlockStyle.N1,
        layout=HeadLayout.ACTION_ONLY,
        action_positions=ActionPositions.LEARNED,
        mask_features=False,
        eagle=eagle,
    )
    weights = {
        to_theirs(name): tensor.contiguous() for name, tensor in DustModel(config).state_dict().items()
    }
    save_file(weights, folder / "model.safetensors")
    vocabulary = folder / "eagle2_hg_model"
    vocabulary.mkdir()
    (vocabulary / "vocab.json").write_text(json.dumps({letter: i for i, letter in enumerate(letters)}))
    (vocabulary / "merges.txt").write_text("#version: 0.2\n")
    flags = ("lstrip", "rstrip", "normalized", "single_word")
    entry = {**dict.fromkeys(flags, False), "special": True}
    added = {str(len(letters) + i): {"content": token, **entry} for i, token in enumerate(ADDED)}
    tokens = {"added_tokens_decoder": added, "tokenizer_class": "GPT2Tokenizer", "unk_token": "<|endoftext|>"}
    (vocabulary / "tokenizer_config.json").write_text(json.dumps(tokens))
    found = home_statistics(franka.layout(), "franka")
    arm, hand = ({name: row[part] for name, row in found.items()} for part in (slice(7), slice(7, 8)))
    groups = {"arm": arm, "gripper": hand}
    metadata = {"new_embodiment": {"statistics": {"state": groups, "action": groups}}}
    (folder / "experiment_cfg").mkdir()
    (folder / "experiment_cfg" / "metadata.json").write_text(json.dumps(metadata))


def ud_vla(folder: Path) -> None:
    """Write the decoder, the image tokenizer, the FAST and the text vocabulary, and `norm_stats.json`."""
    config = released_geometry(replace(preset("tiny"), layers=1))
    decoder, vision = random_decoder(config, seed=SEED), random_vision(config, seed=SEED)
    for name in ("ud_vla", "Emu3-VisionTokenizer", "fast"):
        (folder / name).mkdir()
    save_file(dict(decoder.lm.state_dict()), folder / "ud_vla" / "model.safetensors")
    library = {**config.library().to_dict(), "model_type": "Emu3", "architectures": ["Emu3MoE"]}
    (folder / "ud_vla" / "config.json").write_text(json.dumps(library, default=str))
    weights = {}
    for name, tensor in vision.vq.state_dict().items():
        linear = "_proj.weight" in name
        weights[as_published(name)] = (tensor[:, :, None, None] if linear else tensor).contiguous()
    save_file(weights, folder / "Emu3-VisionTokenizer" / "model.safetensors")
    sizes = {"ch": 32, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "temporal_downsample_factor": 1}
    sizes |= {"codebook_size": 32_768, "embed_dim": 4}
    (folder / "Emu3-VisionTokenizer" / "config.json").write_text(json.dumps(sizes))
    # One token for each coefficient, and one for nearly every token: random weights still give chunks.
    (folder / "fast" / FILE_NAME).write_text(plain(limit=511, scale=1000.0).to_json())
    ranks = [f"{base64.b64encode(bytes([byte])).decode()} {i}" for i, byte in enumerate(byte_order())]
    (folder / "ud_vla" / "emu3.tiktoken").write_text("\n".join(ranks))
    stats = {"norm_stats": {"ur5e": home_statistics(ur5e.layout(), ur5e.ROBOT)}}
    (folder / "norm_stats.json").write_text(json.dumps(stats))


def as_published(name: str) -> str:
    """Return the name that a tensor of the image tokenizer has in its authors' files, from the library's."""
    name = name.replace("encoder.down_block.", "encoder.").replace("decoder.up_block.", "decoder.")
    name = name.replace("middle_block.attn_norm.", "mid.attn_1.norm.").replace("middle_block.", "mid.")
    name = re.sub(r"attn_norms\.(\d+)\.", r"attn.\1.norm.", name)
    name = re.sub(r"\.(q|k|v)_proj\.", r".\1.", name)
    return name.replace(".out_proj.", ".proj_out.")


def main(folder: Path) -> None:
    """Write all three into `folder`."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    for name, write in (("aha_wam", aha_wam), ("gr00t", gr00t), ("ud_vla", ud_vla)):
        place = folder / name
        if place.exists():
            raise SystemExit(f"{place} exists already; name a new folder")
        place.mkdir(parents=True)
        write(place)
        size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        print(f"{place}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python examples/small_checkpoints.py FOLDER")
    main(Path(sys.argv[1]))
