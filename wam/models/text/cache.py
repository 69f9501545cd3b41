# SPDX-License-Identifier: Apache-2.0
"""The embedding cache (`text_embeddings.safetensors`), so that a robot computer needs no 5.7 B encoder.

- One tensor per prompt, named by the SHA-256 (hex) of the prompt in UTF-8, after the instruction template has been
  filled in; [n, E] with the n rows that are not padding; bfloat16 or float32.
- Metadata: "format" = "wam-text-embeddings/1"; "prompts" = JSON object SHA-256 -> prompt; "encoder" = name of the
  encoder; "text_len" = T.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from wam.core.errors import BundleError, InputError
from wam.core.file_modes import make_public
from wam.models.bundle.header import open_tensors, read_header
from wam.models.text.encoder import TextEncoder, pad_rows

CACHE_NAME = "text_embeddings.safetensors"
CACHE_FORMAT = "wam-text-embeddings/1"


def prompt_key(prompt: str) -> str:
    """Return the name of a prompt in a cache."""
    return hashlib.sha256(prompt.encode("utf-8")).hexdigest()


def _read_prompts(text: str, path: Path) -> dict[str, str]:
    try:
        prompts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: its list of prompts is damaged ({error})") from error
    if not isinstance(prompts, dict) or not all(isinstance(prompt, str) for prompt in prompts.values()):
        raise BundleError(f"{path}: its list of prompts is damaged", allowed="an object of texts")
    return prompts


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
        metadata = read_header(path).metadata
        if metadata.get("format") != CACHE_FORMAT:
            raise BundleError(f"{path}: format", value=metadata.get("format"), allowed=CACHE_FORMAT)
        self._prompts = _read_prompts(metadata.get("prompts", ""), path)
        with open_tensors(path) as file:
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
    make_public(path)


def embed_all(encoder: TextEncoder, prompts: Iterable[str]) -> dict[str, Tensor]:
    """Embed prompts for `write_cache`."""
    return {prompt: encoder.embed(prompt) for prompt in prompts}
