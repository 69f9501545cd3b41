# SPDX-License-Identifier: Apache-2.0
"""Writes stages as ONNX graphs without weights.

A graph names the stage's parameters and gets them when it is loaded, so an artefact is small and cannot hold the
weights of another policy. Of an `EulerLoop` one step is exported, and the loop is put around it: unrolled, it would
take minutes to export; what does not change from step to step is computed before the first one.

This needs onnx and onnxscript, which running a policy does not.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from wam.core.extras import remedy
from wam.models.backends.artefacts import ArtefactStore, named_weights
from wam.models.backends.backend import EagerRunner, Runner, StageUnavailable
from wam.models.backends.onnx_rewrite import split_wide_heads, tensor_of
from wam.models.backends.onnx_runtime import artefact_name
from wam.models.backends.stage import EulerLoop, StageInputs, StageSpec

if TYPE_CHECKING:
    import onnx

OPSET = 23
"""The first with Attention and RMSNormalization of its own."""

LARGE = 16
"""Constants of so many numbers are compared with the weights."""

STEP_PREFIX = "step."
FLAT_PREFIX = "stage."
"""Of a weight's name in an exported graph, whose module is the `_Flat` around the stage."""


@dataclass(frozen=True, slots=True)
class GraphForm:
    """How a stage is written down for one kind of runtime.

    Attributes:
        opset: version of the ONNX operators.
        loop: an `EulerLoop` is a graph of all steps; without it, of a single step.
        wide_heads: attention of heads that are wider than TensorRT's fused kernels take stays one operator.
    """

    opset: int = OPSET
    loop: bool = True
    wide_heads: bool = True


CPU_FORM = GraphForm()
TENSORRT_FORM = GraphForm(loop=False, wide_heads=False)
CUDA_PROVIDER_FORM = GraphForm(opset=18, loop=False)
"""For ONNX Runtime on a GPU: its TensorRT provider leaves operators of opset 23 to other providers."""


def export_versions(form: GraphForm = CPU_FORM) -> dict[str, str]:
    """Return what a graph depends on beside the policy."""
    return {"opset": str(form.opset), "torch": torch.__version__.partition("+")[0]}


class OnnxExporter:
    """A backend that runs stages as they are written, and exports them on the way.

    Args:
        store: where the artefacts go.
        form: how they are written down.

    Attributes:
        written: names of what has been exported.
    """

    name = "export"
    only_examples = True

    def __init__(self, store: ArtefactStore, form: GraphForm = CPU_FORM) -> None:
        self._store, self._form = store, form
        self.written: list[str] = []
        self._numbers: dict[str, int] = {}

    @property
    def folder(self) -> Path:
        """Where the artefacts go."""
        return self._store.target

    def probe(self) -> str:
        """Return what is not installed, with the remedy."""
        return missing()

    def build(self, stage: StageSpec) -> None:
        """Nothing to make: stages are exported when they are loaded."""

    def load(self, stage: StageSpec, inputs: StageInputs) -> Runner:
        """Export the stage for inputs of these shapes, and return the stage itself.

        Raises:
            StageUnavailable: it cannot be exported.
        """
        if not isinstance(stage.module, nn.Module):
            raise StageUnavailable("the stage is no module, which cannot be exported")
        if stage.chooses:
            return EagerRunner(stage, inputs)
        number = self._numbers.get(stage.name, 0)
        self._numbers[stage.name] = number + 1
        graph, weights = export_stage(stage.module, inputs, form=self._form)
        name = artefact_name(stage, number)
        self._store.write(name, stage.module, graph=graph, weights=weights)
        self.written.append(name)
        return EagerRunner(stage, inputs)

    def refused(self, stage: StageSpec, inputs: StageInputs, reason: str) -> bool:
        """Nothing to note: what runs is the stage itself."""
        return False


def missing() -> str:
    """Return what an export needs and is not installed, with the remedy; "" where all is there."""
    for name in ("onnx", "onnxscript"):
        try:
            __import__(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            return f"{name} is not installed: {remedy(name)}"
    return ""


class _Flat(nn.Module):
    """A module that takes and returns tensors alone."""

    def __init__(self, stage: nn.Module, inputs: StageInputs) -> None:
        super().__init__()
        self.stage, self._inputs = stage, inputs

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        args, kwargs = self._inputs.arguments(tensors)
        return tuple(pytree.tree_leaves(self.stage(*args, **kwargs)))


def export_stage(
    module: nn.Module, inputs: StageInputs, *, form: GraphForm = CPU_FORM
) -> tuple[bytes, dict[str, str]]:
    """Return a stage as a graph without weights, and name in the graph -> name of the stage's weight.

    Args:
        module: the stage.
        inputs: of the shapes that it is exported for.
        form: how it is written down.

    Raises:
        StageUnavailable: the graph would not take all inputs.
    """
    weights = named_weights(module)
    with torch.inference_mode(mode=False), torch.no_grad():
        inputs = StageInputs(
            [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in inputs.leaves], inputs.shape
        )
        if isinstance(module, EulerLoop):
            (x, table, *fixed), _ = inputs.arguments()
            one = StageInputs.of(x, table[0], *fixed)
            model = _exported(module.step, one, form)
            linked = _without_weights(model, weights, prefix=STEP_PREFIX)
            if form.loop:
                model = _in_a_loop(model)
        else:
            model = _exported(module, inputs, form)
            linked = _without_weights(model, weights, prefix="")
    return model.SerializeToString(deterministic=True), linked


def _exported(module: nn.Module, inputs: StageInputs, form: GraphForm) -> onnx.ModelProto:
    with warnings.catch_warnings():
        # What the exporter deprecates of torch's own is no concern of whoever exports a policy.
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            _Flat(module, inputs).eval(),
            inputs.tensors,
            dynamo=True,
            opset_version=form.opset,
            verbose=False,
        )
    model: onnx.ModelProto = program.model_proto
    for node in model.graph.node:
        # Files and lines of this machine; a graph of the same stage is to be the same everywhere.
        node.doc_string = ""
        del node.metadata_props[:]
    del model.metadata_props[:], model.graph.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        del value.metadata_props[:]
    if len(model.graph.input) != len(inputs.tensors):
        raise StageUnavailable("the exported graph ignores an input of the stage")
    if not form.wide_heads:
        split_wide_heads(model)
    return model


def _without_weights(model: onnx.ModelProto, weights: Mapping[str, Tensor], *, prefix: str) -> dict[str, str]:
    """Replace every constant that is a weight, or a transposed one, by a reference; return those references.

    Args:
        model: changed in place.
        weights: of the stage, by name.
        prefix: of the names of the exported module's weights among them.
    """
    import onnx
    from onnx import external_data_helper, helper

    graph, linked = model.graph, dict[str, str]()
    kept, turned = [], []
    for constant in list(graph.initializer):
        value = tensor_of(constant)
        named = prefix + constant.name.removeprefix(FLAT_PREFIX)
        own: tuple[str, bool] | None = None
        if named in weights and torch.equal(weights[named].to(value.device), value):
            own = named, False
        elif value.numel() >= LARGE:
            own = _match(value, weights)
        if own is None:
            kept.append(constant)
            continue
        name, transposed = own
        if name not in linked.values():
            reference = onnx.TensorProto()
            reference.name, reference.data_type = f"weight.{name}", constant.data_type
            reference.dims.extend(weights[name].shape)
            # ONNX Runtime is given the values; the place in a file is never read.
            reference.raw_data = b""
            external_data_helper.set_external_data(reference, location="weights")
            reference.ClearField("raw_data")
            kept.append(reference)
            linked[reference.name] = name
        node = ("Transpose", {"perm": [1, 0]}) if transposed else ("Identity", {})
        turned.append(helper.make_node(node[0], [f"weight.{name}"], [constant.name], **node[1]))
    nodes = [*turned, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    return linked


def _match(value: Tensor, weights: Mapping[str, Tensor]) -> tuple[str, bool] | None:
    """Return the weight that a constant is, and whether it is transposed."""
    for name, weight in weights.items():
        weight = weight.to(value.device)
        if value.dtype != weight.dtype:
            continue
        if value.shape == weight.shape and torch.equal(value, weight):
            return name, False
        if (
            value.dim() == weight.dim() == 2
            and value.shape == weight.T.shape
            and torch.equal(value, weight.T)
        ):
            return name, True
    return None


def _in_a_loop(step: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph that takes Euler steps: x, table [N, ...], fixed inputs, deltas [N] -> x after the last one."""
    from onnx import TensorProto, helper

    graph = step.graph
    x, entry, *fixed = graph.input
    velocity = graph.output[0].name
    deltas = "deltas"
    sizes = [one.dim_value for one in entry.type.tensor_type.shape.dim]
    table = helper.make_tensor_value_info("table", TensorProto.FLOAT, ["N", *sizes])
    moves = helper.make_tensor_value_info(deltas, TensorProto.FLOAT, ["N"])
    before, body = _split(graph.node, changing={x.name, entry.name})
    scalar = helper.make_tensor_value_info
    inner = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "index"], [entry.name], axis=0),
            helper.make_node("Gather", [deltas, "index"], ["delta"], axis=0),
            *body,
            helper.make_node("Mul", [velocity, "delta"], ["move"]),
            helper.make_node("Add", [x.name, "move"], ["next"]),
            helper.make_node("Identity", ["go_on"], ["still"]),
        ],
        "step",
        [scalar("index", TensorProto.INT64, []), scalar("go_on", TensorProto.BOOL, []), x],
        [scalar("still", TensorProto.BOOL, []), _named(x, "next")],
    )
    first = helper.make_tensor("first", TensorProto.INT64, [1], [0])
    outer = helper.make_graph(
        [
            *before,
            helper.make_node("Shape", [deltas], ["count_1"]),
            helper.make_node("Squeeze", ["count_1", "first"], ["count"]),
            helper.make_node("Loop", ["count", "", "noise"], ["rows"], body=inner),
        ],
        "loop",
        [_named(x, "noise"), table, *fixed, moves],
        [_named(x, "rows")],
        initializer=[*graph.initializer, first],
    )
    return helper.make_model(outer, opset_imports=step.opset_import, ir_version=step.ir_version)


def _split(nodes: Sequence[Any], *, changing: set[str]) -> tuple[list[Any], list[Any]]:
    """Return the nodes that are the same in every step, and the others."""
    changes, before, body = set(changing), [], []
    for node in nodes:
        if changes.intersection(node.input):
            changes.update(node.output)
            body.append(node)
        else:
            before.append(node)
    return before, body


def _named(value: Any, name: str) -> Any:
    other = type(value)()
    other.CopyFrom(value)
    other.name = name
    return other
