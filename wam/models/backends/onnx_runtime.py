# SPDX-License-Identifier: Apache-2.0
"""Stages on a CPU through ONNX Runtime: one native call for a stage, which gives up the GIL once.

An eager stage is hundreds of small operations, and Python holds the GIL between any two of them: beside a busy Python
thread (a simulator, a recorder, the other half) a step takes ten times as long. The graph of a stage has been exported
before (`onnx_export`); it is loaded with the policy's own weights, and judged against the eager stage before it is
used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from wam.core.extras import remedy
from wam.models.backends.artefacts import REMEDY, Artefact, ArtefactStore, named_weights
from wam.models.backends.backend import ONNX_RUNTIME_NAME, Runner, StageUnavailable
from wam.models.backends.stage import EulerLoop, StageInputs, StageSpec

if TYPE_CHECKING:
    import onnxruntime

INTRA_OP_THREADS = 1
"""More threads cost more than they gain: a stage of a small policy lasts a millisecond, and the cores are wanted."""

Builder = Callable[[], None]
"""Exports every stage of the policy in a child process; raises `StageUnavailable` where it cannot."""


def missing() -> str:
    """Return why ONNX Runtime cannot be used, with the remedy; "" where it can."""
    try:
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        return f"onnxruntime is not installed: {remedy('onnxruntime')}"
    return ""


class OnnxRunner:
    """One exported stage. Safe to call from any thread.

    Args:
        stage: whose weights it has.
        inputs: of the shapes that it was exported for.
        artefact: the graph.
    """

    def __init__(self, stage: StageSpec, inputs: StageInputs, artefact: Artefact) -> None:
        assert isinstance(stage.module, nn.Module)
        self._stage, self._module, self._inputs, self._artefact = stage, stage.module, inputs, artefact
        self._constants: tuple[Tensor, ...] = ()
        if isinstance(stage.module, EulerLoop):
            self._constants = (stage.module.deltas,)
        self._session: onnxruntime.InferenceSession | None = None
        self._names: tuple[str, ...] = ()

    def bind(self) -> None:
        """Load the graph with the stage's weights.

        Raises:
            StageUnavailable: it does not load, or takes other inputs than the stage has.
        """
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = INTRA_OP_THREADS
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        own = named_weights(self._module)
        names = list(self._artefact.weights)
        try:
            values = [
                ort.OrtValue.ortvalue_from_numpy(own[self._artefact.weights[name]].detach().numpy())
                for name in names
            ]
            options.add_external_initializers(names, values)
            session = ort.InferenceSession(self._artefact.graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # The binding's exceptions have no common base of their own.
            raise StageUnavailable(
                f"ONNX Runtime does not load its graph ({str(error).splitlines()[0]}): "
                f"install the pinned onnxruntime, or {REMEDY}"
            ) from error
        given = (*self._inputs.tensors, *self._constants)
        taken = session.get_inputs()
        fits = len(taken) == len(given) and all(
            len(one.shape) == tensor.dim()
            and all(isinstance(a, str) or a == b for a, b in zip(one.shape, tensor.shape, strict=True))
            for one, tensor in zip(taken, given, strict=True)
        )
        if not fits:
            raise StageUnavailable(
                f"its graph takes {[tuple(one.shape) for one in taken]}, the stage has "
                f"{[tuple(tensor.shape) for tensor in given]}; {REMEDY}"
            )
        self._session, self._names = session, tuple(one.name for one in taken)

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the results; nothing is copied in, and the results' memory is their own."""
        assert self._session is not None, "`bind` comes before `run`"
        given = (*tensors, *self._constants)
        feed = {name: one.detach().numpy() for name, one in zip(self._names, given, strict=True)}
        results: list[Any] = self._session.run(None, feed)
        return [torch.from_numpy(result) for result in results]


class OnnxRuntime:
    """The exported stages of one policy.

    Args:
        store: where they lie.
        builder: exports what is missing; None where nothing can be exported.
    """

    name = ONNX_RUNTIME_NAME
    only_examples = True

    def __init__(self, store: ArtefactStore, *, builder: Builder | None = None) -> None:
        self._store, self._builder = store, builder
        self._loaded: dict[str, int] = {}
        self._last: dict[str, Artefact] = {}

    def probe(self) -> str:
        """Return why ONNX Runtime cannot be used here, with the remedy."""
        return missing()

    def build(self, stage: StageSpec) -> None:
        """Export every stage of the policy, once.

        Raises:
            StageUnavailable: they cannot be exported.
        """
        builder, self._builder = self._builder, None
        self._loaded.pop(stage.name, None)
        if builder is not None:
            builder()

    def load(self, stage: StageSpec, inputs: StageInputs) -> Runner:
        """Return the exported stage for the next of its examples.

        Raises:
            StageUnavailable: there is none, or it is damaged, refused, or was exported from something else.
        """
        if not isinstance(stage.module, nn.Module):
            raise StageUnavailable("the stage is no module, which cannot be exported; take backend eager")
        if any(tensor.dtype == torch.bfloat16 for tensor in inputs.tensors):
            raise StageUnavailable(
                "ONNX Runtime does not compute in bfloat16 on a CPU; convert with float32, or take backend eager"
            )
        number = self._loaded.get(stage.name, 0)
        artefact = self._store.read(artefact_name(stage, number), stage.module)
        self._loaded[stage.name] = number + 1
        self._last[stage.name] = artefact
        return OnnxRunner(stage, inputs, artefact)

    def refused(self, stage: StageSpec, reason: str) -> None:
        """Put the graph that was loaded last into quarantine."""
        if stage.name in self._last:
            self._store.refuse(self._last[stage.name].digest, reason)


def artefact_name(stage: StageSpec, number: int) -> str:
    """Return the name of the artefact for the stage's example of that number."""
    return f"{stage.name}.{number}"
