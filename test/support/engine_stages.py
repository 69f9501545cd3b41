# SPDX-License-Identifier: Apache-2.0
"""Small stages, their engines, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from host_gpu import HostGpu
from torch import Tensor, nn

from wam.models.backends import tensorrt_api
from wam.models.backends.engine_builder import EngineBuilder, StageGraph
from wam.models.backends.engines import EngineStore, Settings
from wam.models.backends.plan import BackendPlan
from wam.models.backends.stage import EulerLoop, PolicyPart, StageInputs, StagePadding, StageSpec
from wam.models.backends.tensorrt import TensorRt

CONTRACT = "a" * 64
VERSIONS = ("10.16.1.11", "11.4.0.106")


class Pair(NamedTuple):
    k: Tensor
    v: Tensor


class Velocity(nn.Module):
    """Depends on the state, on the entry of the table, and on both halves of what is fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x: Tensor, entry: Tensor, fixed: Pair) -> Tensor:
        out: Tensor = self.second(torch.tanh(self.first(x) + entry) * fixed.k) + fixed.v
        return out


class Route(nn.Module):
    """Two results of two shapes, from one head that is wider than fused attention."""

    def __init__(self) -> None:
        super().__init__()
        self.to_query = nn.Linear(320, 320)

    def forward(self, x: Tensor) -> Pair:
        query = self.to_query(x)[:, None]
        out = nn.functional.scaled_dot_product_attention(query, x[:, None], x[:, None])[:, 0]
        return Pair(out, out.mean(dim=2))


class Recall(nn.Module):
    """Attends to what it has seen before, where there is something."""

    def __init__(self) -> None:
        super().__init__()
        self.to_query = nn.Linear(8, 8)

    def forward(self, x: Tensor, memory: Pair | None = None, mask: Tensor | None = None) -> Tensor:
        k, v = (x, x) if memory is None else (torch.cat((memory.k, x), 1), torch.cat((memory.v, x), 1))
        query = self.to_query(x)[:, None]
        out: Tensor = nn.functional.scaled_dot_product_attention(
            query, k[:, None], v[:, None], attn_mask=mask
        )
        return out[:, 0]


RECALLED = 6
"""Rows of a full memory, two for each frame."""


def padded_recall(inputs: StageInputs) -> StageInputs:
    (x, memory), _ = inputs.arguments()
    if memory is None:
        return StageInputs.of(x, None, None)
    lacking = RECALLED - memory.k.shape[1]
    longer = Pair(*(torch.cat((one.new_zeros(1, lacking, 8), one), 1) for one in memory))
    mask = torch.arange(RECALLED + x.shape[1]) >= lacking
    return StageInputs.of(x, longer, mask.expand(1, 1, x.shape[1], -1))


def recall_inputs(frames: int, *, seed: int = 1) -> StageInputs:
    torch.manual_seed(seed)
    memory = Pair(torch.randn(1, 2 * frames, 8), torch.randn(1, 2 * frames, 8)) if frames else None
    return StageInputs.of(torch.randn(1, 2, 8), memory)


def recall_spec() -> StageSpec:
    torch.manual_seed(0)
    module = Recall().requires_grad_(False)
    return StageSpec(
        "recall",
        PolicyPart.PLANNER,
        module,
        lambda: [recall_inputs(frames) for frames in range(4)],
        padding=StagePadding(module, padded_recall),
    )


def loop(*, steps: int = 4, seed: int = 0) -> EulerLoop:
    torch.manual_seed(seed)
    return EulerLoop(Velocity(), [1 - i / steps for i in range(steps + 1)]).requires_grad_(False)


def loop_inputs(*, steps: int = 4, seed: int = 1) -> StageInputs:
    torch.manual_seed(seed)
    pair = Pair(torch.randn(1, 8), torch.randn(1, 6))
    return StageInputs.of(torch.randn(1, 6), torch.randn(steps, 8), pair)


def route(*, seed: int = 0) -> Route:
    torch.manual_seed(seed)
    return Route().requires_grad_(False)


def route_inputs(*, seed: int = 1) -> StageInputs:
    torch.manual_seed(seed)
    return StageInputs.of(torch.randn(1, 5, 320))


def denoise_spec(module: nn.Module | None = None, *, steps: int = 4) -> StageSpec:
    examples: Callable[[], list[StageInputs]] = lambda: [loop_inputs(steps=steps)]  # noqa: E731
    return StageSpec("denoise", PolicyPart.EXECUTOR, module or loop(steps=steps), examples)


def route_spec(module: nn.Module | None = None) -> StageSpec:
    return StageSpec("route", PolicyPart.EXECUTOR, module or route(), lambda: [route_inputs()])


def store(tmp_path: Path, gpu: HostGpu | None = None, *, contract: str = CONTRACT) -> EngineStore:
    return EngineStore(
        tmp_path / "engines",
        contract=contract,
        tensorrt=tensorrt_api.version(),
        gpu=(gpu or HostGpu()).facts(),
    )


def built(
    graph: StageGraph, where: EngineStore, *, settings: Settings | None = None, precision: str = "float32"
) -> Any:
    key = where.key(
        parameters=graph.parameters,
        precision=precision,
        graph=graph.graph,
        settings=settings or Settings(),
    )
    return EngineBuilder(where).build(graph, key)


def backend(where: EngineStore, gpu: HostGpu | None = None) -> TensorRt:
    return TensorRt(lambda: where, gpu=gpu or HostGpu())


def fallen_back(where: EngineStore, spec: StageSpec, gpu: HostGpu | None = None) -> str:
    """Return why the stage runs eagerly where the suite may choose."""
    plan = BackendPlan((backend(where, gpu),))
    assert plan.prepare(spec) is spec.module
    assert plan.stages[0].backend == "eager"
    reason = plan.stages[0].reason
    assert "\n" not in reason
    assert reason.startswith("not tensorrt: ")
    return reason
