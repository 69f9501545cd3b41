# SPDX-License-Identifier: Apache-2.0
"""Instructions as embeddings: from a cache file, from the UMT5 encoder, or (for random weights) from hashes."""

from wam.models.text.umt5 import (
    CACHE_FORMAT,
    CACHE_NAME,
    CachedTextEncoder,
    HashTextEncoder,
    TextEncoder,
    Umt5TextEncoder,
    build_umt5,
    clean_prompt,
    embed_all,
    pad_rows,
    prompt_key,
    text_encoder,
    write_cache,
)

__all__ = [
    "CACHE_FORMAT",
    "CACHE_NAME",
    "CachedTextEncoder",
    "HashTextEncoder",
    "TextEncoder",
    "Umt5TextEncoder",
    "build_umt5",
    "clean_prompt",
    "embed_all",
    "pad_rows",
    "prompt_key",
    "text_encoder",
    "write_cache",
]
