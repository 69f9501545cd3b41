# SPDX-License-Identifier: Apache-2.0
"""Names as the authors of the image tokenizer gave them."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest


def _as_published(name: str) -> str:
    name = name.replace("encoder.down_block.", "encoder.").replace("decoder.up_block.", "decoder.")
    name = name.replace("middle_block.attn_norm.", "mid.attn_1.norm.").replace("middle_block.", "mid.")
    name = re.sub(r"attn_norms\.(\d+)\.", r"attn.\1.norm.", name)
    name = re.sub(r"\.(q|k|v)_proj\.", r".\1.", name)
    return name.replace(".out_proj.", ".proj_out.")


@pytest.fixture(scope="session")
def as_published() -> Callable[[str], str]:
    """Function that turns the library's name of a tensor of the image tokenizer into its authors'."""
    return _as_published
