# SPDX-License-Identifier: Apache-2.0
"""Published UD-VLA, UniVLA and Emu3 checkpoints to policy bundles.

A source is a folder as the Hugging Face trainer leaves it: `config.json` and safetensors shards. The image
tokenizer, the text vocabulary and the action vocabulary are published beside it, each in a folder of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from wam.core.errors import BundleError
from wam.models.bundle import Bundle, BundleCamera
from wam.models.container import read_tensors
from wam.models.normalisation import NormMode, PolicyStats
from wam.models.robot_layout import RobotLayout
from wam.policies.ud_vla.config import MaskMode, UdVlaConfig, VisionConfig
from wam.policies.ud_vla.contents import layout_of
from wam.policies.ud_vla.convert.emu3_names import renamed, split_library
from wam.policies.ud_vla.convert.ud_vla_sizes import CONFIG, DECODER_FIELDS, read_json
from wam.policies.ud_vla.fast import FastTokenizer
from wam.policies.ud_vla.jd3p import Jd3pSettings
from wam.policies.ud_vla.model import expected_shapes
from wam.policies.ud_vla.text import RANKS_NAME, RankedPairs
from wam.policies.ud_vla.tokens import RELEASED, TokenLayout
from wam.policies.ud_vla.writing import write_policy

KINDS = ("ud-vla", "univla", "emu3")
MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """What a published checkpoint does not contain.

    Attributes:
        robot: cameras, joints, rate and instruction.
        stats: of the data set that it was trained on.
        cameras: sizes that the image tokenizer sees, in the order of the views.
        mask: which mask the weights were trained with; the published policies very probably `released`.
        chunk_rows: rows of a chunk.
        action_len: sites of the action block with BOA.
        sampler: settings.
        tokens: ids.
        vision: sizes of the image tokenizer.
        dtype: of the decoder's weights in the bundle; the image tokenizer keeps its own.
    """

    robot: RobotLayout
    stats: PolicyStats
    cameras: tuple[BundleCamera, ...]
    mask: MaskMode = MaskMode.RELEASED
    chunk_rows: int = 10
    action_len: int = 70
    sampler: Jd3pSettings = field(default_factory=Jd3pSettings)
    tokens: TokenLayout = RELEASED
    vision: VisionConfig = field(default_factory=VisionConfig)
    dtype: str = "bfloat16"


def read_config(source: Path, options: ConvertOptions) -> UdVlaConfig:
    """Read the sizes of a published decoder.

    Raises:
        BundleError: config.json is missing, has no value for a size, or belongs to another vocabulary.
    """
    path = source / CONFIG
    raw = read_json(path, where="SRC")
    raw = raw.get("text_config", raw)
    if missing := sorted(name for name in DECODER_FIELDS if name not in raw):
        raise BundleError(f"{path} has no {missing}", where="SRC")
    if raw.get("vocab_size") != options.tokens.vocab_size:
        raise BundleError(
            f"{path}: vocab_size", value=raw.get("vocab_size"), allowed=f"{options.tokens.vocab_size}"
        )
    rope = raw.get("rope_parameters") or raw
    try:
        return UdVlaConfig(
            **{ours: raw[theirs] for theirs, ours in DECODER_FIELDS.items()},
            rope_theta=float(rope.get("rope_theta", 1e6)),
            action_len=options.action_len,
            mask=options.mask,
            tokens=options.tokens,
            vision=options.vision,
        )
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from error


def convert(
    kind: str,
    source: Path | str,
    out: Path | str,
    *,
    options: ConvertOptions,
    action_tokenizer: Path | str,
    text_ranks: Path | str | None = None,
    vision: Path | str | None = None,
) -> Bundle:
    """Write a bundle from a published checkpoint.

    UniVLA and Emu3 have the weights that UD-VLA training starts from; their bundles run, but have not learnt JD3P.

    Args:
        kind: one of `KINDS`.
        source: folder of the decoder; for `emu3` in the library's layout also of the image tokenizer.
        out: new or empty folder.
        options: what the checkpoint does not say.
        action_tokenizer: published FAST folder, or `action_tokenizer.json` of another bundle.
        text_ranks: `emu3.tiktoken`; None takes bytes (tiny vocabularies).
        vision: folder or file of the image tokenizer; None takes the one inside `source`.

    Raises:
        BundleError: a file is missing, or a name or shape is not exactly the network's.
    """
    if kind not in KINDS:
        raise BundleError("wam convert: kind", value=kind, allowed=f"one of {KINDS}")
    source = Path(source)
    config = read_config(source, options)
    layout_of(options.cameras, config)
    fast = read_action_tokenizer(Path(action_tokenizer))
    text, files = _text(text_ranks)
    decoder, inner = split_library(read_tensors(source))
    outer = read_tensors(Path(vision)) if vision is not None else {}
    if bool(inner) == bool(outer):
        found = "two image tokenizers" if inner else "no image tokenizer"
        raise BundleError(f"{source} and --vision hold {found}", allowed="exactly one", where="--vision")
    tensors = renamed(decoder, inner or outer, what=str(source))
    _require_exact(tensors, expected_shapes(config), what=str(source))
    dtype = getattr(torch, options.dtype)
    cast = {n: t.to(dtype) if n.startswith("decoder.") else t for n, t in tensors.items()}
    return write_policy(
        out,
        config=config,
        cameras=options.cameras,
        robot=options.robot,
        stats=options.stats,
        chunk_rows=options.chunk_rows,
        action_norm=NormMode.QUANTILE,
        dtype=options.dtype,
        sampler=options.sampler,
        fast=fast,
        text=text,
        tensors=cast,
        source={"weights": source.resolve().name, "layout": kind},
        files=files,
    )


def read_action_tokenizer(path: Path) -> FastTokenizer:
    """Read a published FAST folder or the action tokenizer of a bundle.

    Raises:
        BundleError: it is neither.
    """
    if path.is_dir():
        return FastTokenizer.from_released(path)
    if not path.is_file():
        raise BundleError(f"the action tokenizer {path} is missing", where="--action-tokenizer")
    return FastTokenizer.from_json(path.read_text(encoding="utf-8"), what=str(path))


def _text(ranks: Path | str | None) -> tuple[dict[str, Any], dict[str, bytes]]:
    if ranks is None:
        return {"kind": "bytes"}, {}
    RankedPairs(Path(ranks))
    return {"kind": "ranks", "file": RANKS_NAME}, {RANKS_NAME: Path(ranks).read_bytes()}


def _require_exact(
    tensors: Mapping[str, torch.Tensor], want: Mapping[str, tuple[int, ...]], *, what: str
) -> None:
    missing, extra = sorted(set(want) - set(tensors)), sorted(set(tensors) - set(want))
    wrong = [n for n in want if n in tensors and tuple(tensors[n].shape) != want[n]]
    if missing or extra or wrong:
        raise BundleError(
            f"{what} does not fit the network: {len(missing)} missing {missing[:MOST_NAMED]}, "
            f"{len(extra)} unexpected {extra[:MOST_NAMED]}, {len(wrong)} of another shape "
            f"{[(n, tuple(tensors[n].shape), want[n]) for n in wrong[:MOST_NAMED]]}",
            allowed="exactly the tensors that config.json describes",
            where="SRC",
        )
