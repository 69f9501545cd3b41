# SPDX-License-Identifier: Apache-2.0
"""A plan that writes down, for a build of engines, every stage that a loading policy prepares."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from wam.core.policy import StageBackend
from wam.models.backends.artefacts import named_weights, weights_digest
from wam.models.backends.backend import EAGER_NAME, StageUnavailable
from wam.models.backends.engine_builder import StageGraph
from wam.models.backends.onnx_export import TENSORRT_FORM, export_stage
from wam.models.backends.onnx_rewrite import write_with_weights
from wam.models.backends.onnx_runtime import artefact_name
from wam.models.backends.padding import padded
from wam.models.backends.plan import BackendPlan
from wam.models.backends.stage import StageSpec

MOST_SHAPES = 2
"""A stage with more sets of shapes is built only if it is asked for by name: every engine holds all its weights."""

LISTING = "stages.json"


@dataclass(frozen=True, slots=True)
class ExportedStages:
    """What an export has written.

    Attributes:
        graphs: ready to be built.
        skipped: stage -> why there is no graph of it.
    """

    graphs: tuple[StageGraph, ...]
    skipped: Mapping[str, str]

    def write(self, folder: Path) -> None:
        """Write the listing."""
        graphs = [{**asdict(graph), "model": graph.model.name} for graph in self.graphs]
        text = json.dumps({"graphs": graphs, "skipped": dict(self.skipped)}, indent=1)
        (folder / LISTING).write_text(text, encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> ExportedStages:
        """Return what the listing of a folder says."""
        values: Mapping[str, Any] = json.loads((folder / LISTING).read_text(encoding="utf-8"))
        graphs = tuple(
            StageGraph(
                name=str(one["name"]),
                model=folder / one["model"],
                parameters=str(one["parameters"]),
                graph=str(one["graph"]),
                inputs=tuple(one["inputs"]),
                results=tuple(one["results"]),
            )
            for one in values["graphs"]
        )
        return ExportedStages(graphs, values["skipped"])


class EngineExport(BackendPlan):
    """Exports stages while a policy is loaded, and lets them run as they are written.

    Args:
        folder: where the graphs go.
        chosen: names of stages; empty takes all that have few sets of shapes.
        graphs: write graphs; without, only the weights' digests are taken.
    """

    def __init__(self, folder: Path, *, chosen: Collection[str] = (), graphs: bool = True) -> None:
        super().__init__(named=dict.fromkeys(chosen))
        self._folder, self._chosen, self._writes = folder, frozenset(chosen), graphs
        self._graphs: list[StageGraph] = []
        self._skipped: dict[str, str] = {}
        self.digests: dict[str, str] = {}

    @property
    def name(self) -> str:
        """Name as a key: what another plan has prepared is not shared with this one."""
        return f"engine export {id(self)}"

    @property
    def exported(self) -> ExportedStages:
        """What has been written so far."""
        return ExportedStages(tuple(self._graphs), dict(self._skipped))

    def with_parameters(self, digests: Mapping[str, str]) -> ExportedStages:
        """Return what has been written, with the digests of weights in another precision."""
        graphs = (replace(one, parameters=digests[one.name.rpartition(".")[0]]) for one in self._graphs)
        return ExportedStages(tuple(graphs), dict(self._skipped))

    def prepare(self, stage: StageSpec) -> Callable[..., Any]:
        """Export the stage and return it as it is written."""
        self._met.add(stage.name)
        self._stages.append(StageBackend(stage.name, EAGER_NAME, ""))
        if self._chosen and stage.name not in self._chosen:
            return stage.module
        try:
            self._export(stage)
        except StageUnavailable as error:
            self._skipped[stage.name] = str(error)
        return stage.module

    def _export(self, stage: StageSpec) -> None:
        if not isinstance(stage.module, nn.Module):
            raise StageUnavailable("it is no module, which cannot be exported")
        self.digests[stage.name] = weights_digest(stage.module)
        if not self._writes:
            return
        if stage.slices is not None and not self._chosen:
            raise StageUnavailable(
                "it runs in slices, between which chunks go first, and an engine runs in one piece: "
                f"--stage {stage.name}, if chunks may wait for all of it"
            )
        one = padded(stage)
        assert isinstance(one.module, nn.Module)
        examples = one.examples()
        if len(examples) > MOST_SHAPES and not self._chosen:
            raise StageUnavailable(
                f"it has {len(examples)} sets of shapes, each of which would be an engine with all its weights: "
                f"--stage {stage.name}, if the GPU has the memory"
            )
        for number, inputs in enumerate(examples):
            name = artefact_name(stage, number)
            graph, linked = export_stage(one.module, inputs, form=TENSORRT_FORM)
            path = self._folder / f"{name}.onnx"
            write_with_weights(graph, linked, named_weights(one.module), path)
            takes, gives = _names(graph)
            self._graphs.append(
                StageGraph(
                    name=name,
                    model=path,
                    parameters=self.digests[stage.name],
                    graph=hashlib.sha256(graph).hexdigest(),
                    inputs=takes,
                    results=gives,
                )
            )


def _names(graph: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    import onnx

    model = onnx.load_from_string(graph, format="protobuf").graph
    return tuple(one.name for one in model.input), tuple(one.name for one in model.output)
