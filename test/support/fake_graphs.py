# SPDX-License-Identifier: Apache-2.0
"""Captured graphs without a GPU, and backends that compute something else than the stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from wam.models.backends.backend import EagerRunner, Runner
from wam.models.backends.stage import StageInputs, StageSpec


class FakeCapture:
    """What a graph does, without a GPU: the results keep their memory, and a replay writes into it."""

    def __init__(self) -> None:
        self.replays = 0

    def __call__(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        results = run()
        static = [results] if isinstance(results, Tensor) else list(results)

        def replay() -> None:
            self.replays += 1
            again = run()
            for old, new in zip(static, [again] if isinstance(again, Tensor) else again, strict=True):
                old.copy_(new)

        return replay, results


class SharedMemory:
    """A capture that obeys the documented rule of a pool: a replay may write the results of graphs captured later."""

    def __init__(self) -> None:
        self._captured: list[list[Tensor]] = []
        self.replays = 0

    def __call__(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        results = [result.clone() for result in run()]
        mine = len(self._captured)
        self._captured.append(results)

        def replay() -> None:
            self.replays += 1
            for later in self._captured[mine + 1 :]:
                for result in later:
                    result.fill_(float("nan") if result.is_floating_point() else -1)
            for old, new in zip(results, run(), strict=True):
                old.copy_(new)

        return replay, results


class CountingMemory(SharedMemory):
    """A `SharedMemory` that counts what is captured."""

    def __init__(self) -> None:
        super().__init__()
        self.captures = 0

    def __call__(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        self.captures += 1
        return super().__call__(run)


Wrong = Callable[[StageSpec, StageInputs, Sequence[Tensor]], Sequence[Tensor]]
"""Computes a stage wrongly: (stage, the inputs that it was loaded for, the inputs of this call) -> results."""


class _WrongRunner(EagerRunner):
    def __init__(self, stage: StageSpec, inputs: StageInputs, wrong: Wrong) -> None:
        super().__init__(stage, inputs)
        self._spec, self._loaded, self._wrong = stage, inputs, wrong

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [result.clone() for result in self._wrong(self._spec, self._loaded, tensors)]


class WrongBackend:
    """Runs one stage wrongly and all others as they are written.

    Args:
        stage: name of the one.
        wrong: what it computes.
    """

    name = "wrong"
    only_examples = False

    def __init__(self, stage: str, wrong: Wrong) -> None:
        self._stage, self._wrong = stage, wrong
        self.reasons: list[str] = []

    def probe(self) -> str:
        return ""

    def build(self, stage: StageSpec) -> None:
        pass

    def load(self, stage: StageSpec, inputs: StageInputs) -> Runner:
        if stage.name != self._stage:
            return EagerRunner(stage, inputs)
        return _WrongRunner(stage, inputs, self._wrong)

    def refused(self, stage: StageSpec, inputs: StageInputs, reason: str) -> bool:
        self.reasons.append(reason)
        return False


def computed(stage: StageSpec, inputs: StageInputs, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return what the stage computes."""
    args, kwargs = inputs.arguments(tensors)
    out: list[Tensor] = pytree.tree_leaves(stage.module(*args, **kwargs))
    return out


def baked(place: int) -> Wrong:
    """Return a fault: the input at `place` has become a constant."""

    def wrong(stage: StageSpec, loaded: StageInputs, tensors: Sequence[Tensor]) -> list[Tensor]:
        given = list(tensors)
        given[place] = loaded.tensors[place]
        return computed(stage, loaded, given)

    return wrong


def ignored(place: int) -> Wrong:
    """Return a fault: the input at `place` is left out (zeros stand for it)."""

    def wrong(stage: StageSpec, loaded: StageInputs, tensors: Sequence[Tensor]) -> list[Tensor]:
        given = list(tensors)
        given[place] = torch.zeros_like(given[place])
        return computed(stage, loaded, given)

    return wrong


def layers_permuted(place: int) -> Wrong:
    """Return a fault: the layers of the input at `place`, its first axis, are read in another order."""

    def wrong(stage: StageSpec, loaded: StageInputs, tensors: Sequence[Tensor]) -> list[Tensor]:
        given = list(tensors)
        given[place] = given[place].roll(1, dims=0)
        return computed(stage, loaded, given)

    return wrong
