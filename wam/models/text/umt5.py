# SPDX-License-Identifier: Apache-2.0
"""The UMT5 text encoder of Wan 2.2, from its original files or in the layout of transformers."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wam.core.errors import BundleError, InputError
from wam.core.extras import missing
from wam.models.container import read_tensors
from wam.models.text.encoder import pad_rows

_TEXT_RULES: tuple[tuple[str, str], ...] = (
    (r"^token_embedding\.", "shared."),
    (r"^norm\.", "encoder.final_layer_norm."),
    (r"^blocks\.(\d+)\.norm1\.", r"encoder.block.\1.layer.0.layer_norm."),
    (r"^blocks\.(\d+)\.norm2\.", r"encoder.block.\1.layer.1.layer_norm."),
    (r"^blocks\.(\d+)\.attn\.([qkvo])\.", r"encoder.block.\1.layer.0.SelfAttention.\2."),
    (
        r"^blocks\.(\d+)\.pos_embedding\.embedding\.",
        r"encoder.block.\1.layer.0.SelfAttention.relative_attention_bias.",
    ),
    (r"^blocks\.(\d+)\.ffn\.gate\.0\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_0."),
    (r"^blocks\.(\d+)\.ffn\.fc1\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_1."),
    (r"^blocks\.(\d+)\.ffn\.fc2\.", r"encoder.block.\1.layer.1.DenseReluDense.wo."),
)


def text_to_transformers(name: str) -> str:
    """Return the transformers name of a tensor of the original UMT5 encoder; others come back unchanged."""
    for pattern, replacement in _TEXT_RULES:
        renamed, count = re.subn(pattern, replacement, name)
        if count:
            return renamed
    return name


def build_umt5(tensors: Mapping[str, Tensor]) -> Any:
    """Build `transformers.UMT5EncoderModel` from the original Wan text encoder; sizes come from the tensors.

    Args:
        tensors: of `models_t5_umt5-xxl-enc-bf16.pth` (original names) or of the library class.

    Raises:
        MissingDependency: transformers is not installed.
        BundleError: names are missing or left over.
    """
    try:
        from transformers import UMT5Config, UMT5EncoderModel
    except ModuleNotFoundError as error:
        raise missing("the text encoder needs transformers", "transformers") from error
    state = {text_to_transformers(name): tensor for name, tensor in tensors.items()}
    first = "encoder.block.0.layer."
    try:
        vocab, width = state["shared.weight"].shape
        buckets, heads = state[f"{first}0.SelfAttention.relative_attention_bias.weight"].shape
        inner = state[f"{first}0.SelfAttention.q.weight"].shape[0]
        ffn = state[f"{first}1.DenseReluDense.wi_0.weight"].shape[0]
    except KeyError as error:
        raise BundleError(f"the text encoder lacks {error}") from error
    config = UMT5Config(
        vocab_size=vocab,
        d_model=width,
        d_kv=inner // heads,
        d_ff=ffn,
        num_layers=1 + max(int(n.split(".")[2]) for n in state if n.startswith("encoder.block.")),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )
    with torch.device("meta"):
        model: Any = UMT5EncoderModel(config)
    tied = {"encoder.embed_tokens.weight"}
    have, want = set(state) - tied, set(model.state_dict()) - tied
    if have != want:
        raise BundleError(
            f"the text encoder does not fit: {len(want - have)} missing {sorted(want - have)[:6]}, "
            f"{len(have - want)} unexpected {sorted(have - want)[:6]}"
        )
    model.load_state_dict(
        {**state, "encoder.embed_tokens.weight": state["shared.weight"]}, strict=False, assign=True
    )
    return model.eval().requires_grad_(False)


class Umt5TextEncoder:
    """The real encoder, `transformers.UMT5EncoderModel`.

    Args:
        model: on its device.
        tokenizer: of google/umt5-xxl.
        text_len: T.
    """

    def __init__(self, model: Any, tokenizer: Any, *, text_len: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._text_len = text_len

    @staticmethod
    def from_directory(
        directory: Path,
        *,
        text_len: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.bfloat16,
    ) -> Umt5TextEncoder:
        """Load from this machine.

        Args:
            directory: with `tokenizer/` and either `text_encoder/` (diffusers layout of Wan 2.2) or the original
                `models_t5_umt5-xxl-enc-bf16.pth`.
            text_len: T.
            device: where the encoder runs.
            dtype: of its weights.

        Raises:
            MissingDependency: transformers is not installed.
            BundleError: the directory lacks a part.
        """
        original = sorted(directory.glob("models_t5*.pth")) + sorted(directory.glob("models_t5*.safetensors"))
        library = directory / "text_encoder"
        if not (directory / "tokenizer").is_dir() or not (library.is_dir() or original):
            raise BundleError(
                f"{directory} holds no text encoder",
                allowed="tokenizer/ and text_encoder/, or tokenizer/ and models_t5*.pth",
                where="text.directory in policy.yaml",
            )
        try:
            from transformers import AutoTokenizer, UMT5EncoderModel
        except ModuleNotFoundError as error:
            raise missing("the text encoder needs transformers", "transformers") from error
        model: Any
        if library.is_dir():
            model = UMT5EncoderModel.from_pretrained(library, local_files_only=True)
        else:
            model = build_umt5(read_tensors(original[0]))
        tokenizer: Any = AutoTokenizer.from_pretrained(directory / "tokenizer", local_files_only=True)
        return Umt5TextEncoder(
            model.to(device=device, dtype=dtype).eval().requires_grad_(False), tokenizer, text_len=text_len
        )

    @torch.inference_mode()
    def embed(self, prompt: str) -> Tensor:
        """Return the encoder's last hidden state of the prompt's tokens."""
        ids = self._tokenizer(clean_prompt(prompt), add_special_tokens=True)["input_ids"]
        if len(ids) > self._text_len:
            raise InputError(
                f"the instruction has {len(ids)} tokens: {prompt!r}",
                allowed=f"at most {self._text_len}",
                where="the instruction",
            )
        # No token attends to padding, so the tokens alone give the same rows.
        ids_1T = torch.tensor([ids], device=self._model.device)
        rows = self._model(input_ids=ids_1T, attention_mask=torch.ones_like(ids_1T)).last_hidden_state[0]
        return pad_rows(rows.cpu(), text_len=self._text_len, prompt=prompt)


def clean_prompt(prompt: str) -> str:
    """Clean text as the released tokenizer does: repair mojibake, unescape HTML twice, collapse white space.

    Raises:
        MissingDependency: the text is not plain ASCII and ftfy, which repairs it, is not installed.
    """
    if not prompt.isascii():
        try:
            import ftfy
        except ModuleNotFoundError as error:
            raise missing(f"the instruction {prompt!r} is not plain ASCII and needs ftfy", "ftfy") from error
        prompt = ftfy.fix_text(prompt)
    return " ".join(html.unescape(html.unescape(prompt)).split())
