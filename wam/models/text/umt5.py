# SPDX-License-Identifier: Apache-2.0
"""Instructions as embeddings: from a cache file, from the UMT5 encoder, or (for random weights) from hashes.

Every encoder returns T rows of E numbers: the embedding of the tokens, then zeros. The released models see
the zero rows as they see the others, so no mask travels with them.

**Embedding cache** (`text_embeddings.safetensors`), so that a robot computer needs no 5.7 B encoder:

- one tensor per prompt, named by the SHA-256 (hex) of the prompt in UTF-8, after the instruction template
  has been filled in; [n, E] with the n rows that are not padding; bfloat16 or float32;
- metadata "format" = "wam-text-embeddings/1"; "prompts" = JSON object SHA-256 -> prompt; "encoder" = name
  of the encoder; "text_len" = T.
"""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from wam.core.errors import BundleError, InputError, MissingDependency
from wam.policies.aha_wam.convert.wan_names import text_to_transformers

CACHE_NAME = "text_embeddings.safetensors"
CACHE_FORMAT = "wam-text-embeddings/1"


class TextEncoder(Protocol):
    """Embeds a prompt. Called from the planner's worker thread; may be slow the first time."""

    def embed(self, prompt: str) -> Tensor:
        """Return [T, E], zero rows after the last token, on the CPU.

        Raises:
            InputError: the prompt is longer than T tokens, or not known to this encoder.
        """
        ...


def prompt_key(prompt: str) -> str:
    """Return the name of a prompt in a cache."""
    return hashlib.sha256(prompt.encode("utf-8")).hexdigest()


def pad_rows(rows_nE: Tensor, *, text_len: int, prompt: str) -> Tensor:
    """Fill up with zero rows to `text_len`.

    Raises:
        InputError: there are more rows than that.
    """
    n = rows_nE.shape[0]
    if n > text_len:
        raise InputError(
            f"the instruction has {n} tokens: {prompt!r}",
            allowed=f"at most {text_len}",
            where="the instruction",
        )
    return torch.cat((rows_nE, rows_nE.new_zeros(text_len - n, rows_nE.shape[1])))


class HashTextEncoder:
    """One pseudo-random row per word: for networks with random weights, where no encoder is wanted.

    Args:
        text_len: T.
        width: E.
    """

    def __init__(self, *, text_len: int, width: int) -> None:
        self._text_len = text_len
        self._width = width

    def embed(self, prompt: str) -> Tensor:
        """Return rows that depend on each word and nothing else."""
        rows = []
        for word in prompt.lower().split():
            seed = int.from_bytes(hashlib.sha256(word.encode("utf-8")).digest()[:8], "little") >> 1
            rows.append(torch.randn(self._width, generator=torch.Generator().manual_seed(seed)))
        stacked = torch.stack(rows) if rows else torch.zeros(0, self._width)
        return pad_rows(stacked, text_len=self._text_len, prompt=prompt)


class CachedTextEncoder:
    """Reads embeddings from a cache file.

    Args:
        path: of the file.
        text_len: T of the policy.
        width: E of the policy.

    Raises:
        BundleError: the file is missing or was made for other sizes.
    """

    def __init__(self, path: Path, *, text_len: int, width: int) -> None:
        if not path.is_file():
            raise BundleError(f"the embedding cache {path} is missing", where="text.file in policy.yaml")
        self._path = path
        self._text_len = text_len
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != CACHE_FORMAT:
                raise BundleError(f"{path}: format", value=metadata.get("format"), allowed=CACHE_FORMAT)
            self._prompts: dict[str, str] = json.loads(metadata["prompts"])
            self._rows = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        for key, rows in self._rows.items():
            if rows.dim() != 2 or rows.shape[1] != width or rows.shape[0] > text_len:
                raise BundleError(
                    f"{path}: the embedding of {self._prompts.get(key, key)!r} is {tuple(rows.shape)}",
                    allowed=f"[at most {text_len}, {width}]",
                    where="the cache; make it with this policy's text encoder",
                )

    def embed(self, prompt: str) -> Tensor:
        """Return the cached rows."""
        rows = self._rows.get(prompt_key(prompt))
        if rows is None:
            raise InputError(
                f"no embedding of {prompt!r} in {self._path}",
                allowed=f"one of {sorted(self._prompts.values())[:8]}",
                where="the instruction, or the cache: embed the text where the encoder is and copy the file",
            )
        return pad_rows(rows, text_len=self._text_len, prompt=prompt)


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
        raise MissingDependency(
            "the text encoder needs transformers", where="pip install transformers"
        ) from error
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
            raise MissingDependency(
                "the text encoder needs transformers", where="pip install transformers"
            ) from error
        model: Any
        if library.is_dir():
            model = UMT5EncoderModel.from_pretrained(library, local_files_only=True)
        else:
            from wam.models.container import read_tensors

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
        # Padding is attended to by nobody, so the tokens alone give the same rows.
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
            raise MissingDependency(
                f"the instruction {prompt!r} is not plain ASCII and needs ftfy", where="pip install ftfy"
            ) from error
        prompt = ftfy.fix_text(prompt)
    return " ".join(html.unescape(html.unescape(prompt)).split())


def write_cache(path: Path, embeddings: Mapping[str, Tensor], *, encoder: str, text_len: int) -> None:
    """Write an embedding cache.

    Args:
        path: of the file; an existing one is replaced.
        embeddings: prompt -> rows [n or T, E]; zero rows at the end are dropped.
        encoder: name of the encoder that made them.
        text_len: T.
    """
    tensors = {}
    for prompt, rows in embeddings.items():
        used = int((rows != 0).any(dim=1).nonzero().max()) + 1 if (rows != 0).any() else 0
        tensors[prompt_key(prompt)] = rows[:used].contiguous()
    metadata = {
        "format": CACHE_FORMAT,
        "prompts": json.dumps({prompt_key(p): p for p in embeddings}, ensure_ascii=False),
        "encoder": encoder,
        "text_len": str(text_len),
    }
    save_file(tensors, path, metadata=metadata)


def embed_all(encoder: TextEncoder, prompts: Iterable[str]) -> dict[str, Tensor]:
    """Embed prompts for `write_cache`."""
    return {prompt: encoder.embed(prompt) for prompt in prompts}


def text_encoder(
    options: Mapping[str, Any],
    *,
    directory: Path,
    text_len: int,
    width: int,
    device: torch.device | str = "cpu",
) -> TextEncoder:
    """Build the encoder that the `text` section of policy.yaml names.

    Args:
        options: {"kind": "hash"}, {"kind": "cache", "file": NAME} or {"kind": "umt5", "directory": PATH}.
        directory: of the bundle; relative paths start there.
        text_len: T.
        width: E.
        device: for UMT5.

    Raises:
        BundleError: the kind is unknown or a file is missing.
    """
    kind = options.get("kind")
    if kind == "hash":
        return HashTextEncoder(text_len=text_len, width=width)
    if kind == "cache":
        return CachedTextEncoder(
            directory / str(options.get("file", CACHE_NAME)), text_len=text_len, width=width
        )
    if kind == "umt5":
        path = directory / str(options.get("directory", ""))
        return Umt5TextEncoder.from_directory(path, text_len=text_len, device=device)
    raise BundleError("policy.yaml: text.kind", value=kind, allowed="hash, cache or umt5")
