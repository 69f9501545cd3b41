# SPDX-License-Identifier: Apache-2.0
"""The text encoder that a bundle names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from wam.core.errors import BundleError
from wam.models.text.cache import CACHE_NAME, CachedTextEncoder
from wam.models.text.encoder import HashTextEncoder, TextEncoder
from wam.models.text.umt5 import Umt5TextEncoder


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
