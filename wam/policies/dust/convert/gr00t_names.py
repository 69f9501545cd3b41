# SPDX-License-Identifier: Apache-2.0
"""Names of GR00T-N1's released checkpoint, and ours for the same tensors.

A name is translated by its prefix, then by its tail within a transformer block; nothing else is renamed.
"""

from __future__ import annotations

import enum
import re

PREFIXES = (
    ("backbone.model.vision_model.vision_model.", "backbone.vision."),
    ("backbone.model.language_model.model.", "backbone.language."),
    ("backbone.model.mlp1.", "backbone.mlp1."),
    ("backbone.linear.", "backbone.linear."),
    ("action_head.model.timestep_encoder.timestep_embedder.", "head.time_a."),
    ("action_head.model.proj_out_", "head.out.a.proj_out_"),
    ("action_head.model.transformer_blocks.", "head.tail.a."),
    ("action_head.position_embedding.weight", "head.pos_action"),
    ("action_head.", "head."),
)
BLOCK_PARTS = (
    (".norm1.linear.", ".ada."),
    (".attn1.to_out.0.", ".to_out."),
    (".attn1.", "."),
    (".ff.net.0.proj.", ".ff1."),
    (".ff.net.2.", ".ff2."),
)
UNUSED = ("action_head.decode_layer.",)
"""Tensors that a released file may carry and that no code of its commit reads."""

NEW_EMBODIMENT = 31
"""Slot that GR00T-N1 keeps for robots it was not trained on."""

_BLOCK = re.compile(r"^head\.tail\.a\.\d+\.")


class HeadStart(enum.Enum):
    """How the bundle's head is made."""

    N1 = "n1"
    """The policy as it is: GR00T-N1 without a world model."""
    FRESH = "fresh"
    """A new DUST head of the paper's reading, as the paper trains it; only the backbone is GR00T-N1's."""
    FROM_N1 = "from-n1"
    """A DUST head of GR00T-N1's blocks: both streams, the encoders and the time encoders begin with its weights."""


def to_ours(name: str) -> str:
    """Translate a name of the release.

    Raises:
        KeyError: no prefix fits.
    """
    for theirs, ours in PREFIXES:
        if name.startswith(theirs):
            translated = ours + name.removeprefix(theirs)
            break
    else:
        raise KeyError(name)
    if _BLOCK.match(translated):
        for theirs, ours in BLOCK_PARTS:
            if theirs in translated:
                return translated.replace(theirs, ours, 1)
    return translated


def to_theirs(name: str) -> str:
    """Translate our name of a plain GR00T-N1 policy to the release's.

    Raises:
        KeyError: no prefix fits.
    """
    translated = name
    if _BLOCK.match(name):
        # `.attn1.` covers the projections without an entry of their own.
        for theirs, ours in BLOCK_PARTS:
            if ours != "." and ours in translated:
                translated = translated.replace(ours, theirs, 1)
                break
        else:
            translated = re.sub(r"\.(to_[qkv])\.", r".attn1.\1.", translated, count=1)
    for theirs, ours in PREFIXES:
        if translated.startswith(ours):
            return theirs + translated.removeprefix(ours)
    raise KeyError(name)
