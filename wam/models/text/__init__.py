# SPDX-License-Identifier: Apache-2.0
"""Instructions as embeddings: from a cache file, from the UMT5 encoder, or (for random weights) from hashes.

Every encoder returns T rows of E numbers: the embedding of the tokens, then zeros. The released models attend to the
zero rows as to the others, so no mask is passed with them.
"""

from wam.models.text.cache import (
    CACHE_FORMAT,
    CACHE_NAME,
    CachedTextEncoder,
    embed_all,
    prompt_key,
    write_cache,
)
from wam.models.text.choice import text_encoder
from wam.models.text.encoder import HashTextEncoder, TextEncoder, pad_rows
from wam.models.text.umt5 import Umt5TextEncoder, build_umt5, clean_prompt, text_to_transformers

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
    "text_to_transformers",
    "write_cache",
]
