# SPDX-License-Identifier: Apache-2.0
"""Changes to exported graphs: weights in a file beside them, and attention too wide for TensorRT's fused kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import onnx

WIDEST_HEAD = 256
"""Width of a head up to which TensorRT has fused attention."""


def tensor_of(constant: Any) -> Tensor:
    """Return the value of a constant of a graph."""
    from onnx import TensorProto, numpy_helper

    if constant.data_type == TensorProto.BFLOAT16 and constant.raw_data:
        # numpy has no such type.
        return torch.frombuffer(bytearray(constant.raw_data), dtype=torch.bfloat16).reshape(
            tuple(constant.dims)
        )
    return torch.from_numpy(numpy_helper.to_array(constant).copy())


def write_with_weights(
    graph: bytes, linked: Mapping[str, str], weights: Mapping[str, Tensor], path: Path
) -> None:
    """Write a graph and, in `<its stem>.weights` beside it, the weights that it refers to.

    Args:
        graph: serialised, from `export_stage`.
        linked: name in the graph -> name of a weight.
        weights: by name.
        path: of the graph, ending in .onnx.
    """
    import onnx
    from onnx import external_data_helper

    model = onnx.load_from_string(graph, format="protobuf")
    beside = path.with_suffix(".weights")
    with open(beside, "wb") as file:
        for constant in model.graph.initializer:
            if constant.name not in linked:
                continue
            value = weights[linked[constant.name]].detach().cpu().contiguous().reshape(-1)
            data = value.view(torch.uint8).numpy().tobytes()
            constant.raw_data = b""
            external_data_helper.set_external_data(
                constant, location=beside.name, offset=file.tell(), length=len(data)
            )
            constant.ClearField("raw_data")
            file.write(data)
    path.write_bytes(model.SerializeToString(deterministic=True))


def split_wide_heads(model: onnx.ModelProto) -> int:
    """Write attention of heads wider than `WIDEST_HEAD` as two products and a softmax; return how many there were.

    Args:
        model: changed in place. Attention with a cache, a causal or boolean mask or a soft cap stays as it is.
    """
    known = {
        value.name: value.type.tensor_type
        for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)
    }
    nodes: list[Any] = []
    changed = 0
    for node in model.graph.node:
        parts = _parts_of_attention(node, known)
        changed += bool(parts)
        nodes.extend(parts or [node])
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return changed


def _parts_of_attention(node: Any, known: Mapping[str, Any]) -> list[Any]:
    """Return what stands for an attention with wide heads; [] for every other node."""
    from onnx import TensorProto, helper

    if node.op_type != "Attention" or node.input[0] not in known:
        return []
    query = known[node.input[0]]
    width = query.shape.dim[-1].dim_value
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    inputs = [*node.input, "", "", ""]
    mask = inputs[3]
    plain = not any(inputs[4:]) and len(node.output) == 1 and not attributes.get("is_causal")
    if width <= WIDEST_HEAD or len(query.shape.dim) != 4 or not plain or attributes.get("softcap"):
        return []
    if mask and (mask not in known or known[mask].elem_type != query.elem_type):
        return []
    own, kind = node.output[0], query.elem_type

    def name(part: str) -> str:
        return f"{own}.{part}"

    scale = helper.make_tensor(name("scale"), kind, [], [attributes.get("scale", 1 / math.sqrt(width))])
    parts = [
        helper.make_node("Constant", [], [name("scale")], value=scale),
        # Before the product: afterwards half precision may overflow.
        helper.make_node("Mul", [node.input[0], name("scale")], [name("query")]),
        helper.make_node("Transpose", [node.input[1]], [name("keys")], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", [name("query"), name("keys")], [name("product")]),
    ]
    scores = name("product")
    if mask:
        parts.append(helper.make_node("Add", [scores, mask], [name("masked")]))
        scores = name("masked")
    if kind != TensorProto.FLOAT:
        parts.append(helper.make_node("Cast", [scores], [name("scores_32")], to=TensorProto.FLOAT))
        scores = name("scores_32")
    parts.append(helper.make_node("Softmax", [scores], [name("shares_32")], axis=-1))
    parts.append(helper.make_node("Cast", [name("shares_32")], [name("shares")], to=kind))
    parts.append(helper.make_node("MatMul", [name("shares"), node.input[2]], [own]))
    return parts
