# SPDX-License-Identifier: Apache-2.0
"""Names of Emu3's published weights, brought to those of a UD-VLA bundle.

Three layouts are published: the trained policies and UniVLA (Llama names, `model.layers.N...`, `lm_head`), the image
tokenizer of its authors (`encoder.down.N...`), and the library's (`model.text_model...`, `model.vqmodel...`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from wam.core.errors import BundleError

_ATTENTION = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "proj_out": "out_proj"}


def decoder_name(name: str) -> str:
    """Return the name in a bundle of a decoder tensor, from any published layout."""
    name = name.removeprefix("text_model.")
    if name.startswith("model.text_model."):
        name = "model." + name.removeprefix("model.text_model.")
    return f"decoder.{name}"


def vision_name(name: str) -> str:
    """Return the name in a bundle of an image tokenizer tensor, from its authors' or the library's layout."""
    name = name.removeprefix("model.vqmodel.").removeprefix("vqmodel.").removeprefix("vq_model.")
    name = re.sub(r"^(encoder)\.down\.", r"\1.down_block.down.", name)
    name = re.sub(r"^(decoder)\.up\.", r"\1.up_block.up.", name)
    name = re.sub(r"^(encoder|decoder)\.mid\.", r"\1.middle_block.", name)
    name = re.sub(r"^(.*\.middle_block)\.attn_1\.norm\.", r"\1.attn_norm.", name)
    name = re.sub(r"^(.*)\.attn\.(\d+)\.norm\.", r"\1.attn_norms.\2.", name)
    part = re.sub(
        r"(\.attn\.\d+|\.attn_1)\.(q|k|v|proj_out)\.", lambda m: f"{m[1]}.{_ATTENTION[m[2]]}.", name
    )
    return f"vision.{part}"


def vision_tensor(tensor: Tensor, name: str) -> Tensor:
    """Return a tensor in the shape of a bundle: the attention's 1 x 1 convolutions are matrices there.

    Args:
        tensor: as published.
        name: in the bundle.
    """
    is_projection = re.search(r"\.(q|k|v|out)_proj\.weight$", name) is not None
    return tensor[:, :, 0, 0] if is_projection and tensor.dim() == 4 else tensor


def renamed(decoder: Mapping[str, Tensor], vision: Mapping[str, Tensor], *, what: str) -> dict[str, Tensor]:
    """Return all tensors of a bundle by their names.

    Args:
        decoder: as published.
        vision: as published.
        what: of the checkpoint, for error texts.

    Raises:
        BundleError: two tensors would get one name.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in decoder.items():
        out[decoder_name(name)] = tensor
    for name, tensor in vision.items():
        new = vision_name(name)
        out[new] = vision_tensor(tensor, new)
    if len(out) != len(decoder) + len(vision):
        raise BundleError(f"{what} has two tensors of one name", value=len(decoder) + len(vision) - len(out))
    return out


def split_library(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split a checkpoint of the library's whole model into decoder and image tokenizer."""
    vision = {n: t for n, t in tensors.items() if re.match(r"(model\.)?vqmodel\.", n)}
    return {n: t for n, t in tensors.items() if n not in vision}, vision
