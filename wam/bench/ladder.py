# SPDX-License-Identifier: Apache-2.0
"""What `benchmarks/ladder.py` measures with: rows printed at once, sections that fail alone, stages on rungs."""

from __future__ import annotations

import copy
import functools
import gc
import json
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from wam.models.backends.backend import COMPILE_NAME, EAGER_NAME, TRITON_NAME, Backend, Eager
from wam.models.backends.bound import BoundStage
from wam.models.backends.cuda_graph import CudaGraphs
from wam.models.backends.own_kernels import OwnKernels
from wam.models.backends.plan import BackendPlan, eager_plan
from wam.models.backends.regional_compile import INDUCTOR, RegionalCompile
from wam.models.backends.stage import StageInputs, StageSpec

RUNGS = ("eager", "cuda_graph")


@dataclass(frozen=True, slots=True)
class LadderOptions:
    """What is measured.

    Attributes:
        device: where.
        dry_run: tiny sizes, one run of each.
        only: sections; empty for all.
        budget_s: time after which nothing new begins [s].
        out: file that holds all rows so far; None for none.
        fail: section that is to fail; "" for none.
    """

    device: str = "cuda"
    dry_run: bool = False
    only: tuple[str, ...] = ()
    budget_s: float = 450.0
    out: Path | None = None
    fail: str = ""


class StageCollector(BackendPlan):
    """A plan that runs every stage as it is written, and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.specs: list[StageSpec] = []

    def prepare(self, stage: StageSpec) -> Callable[..., Any]:
        """Keep the stage."""
        self.specs.append(stage)
        return super().prepare(stage)


class _OperatorCount(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def stand_in(run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """Capture without a GPU: a replay runs the stage again and writes into the same results."""
    results = list(run())

    def replay() -> None:
        for old, new in zip(results, run(), strict=True):
            old.copy_(new)

    return replay, results


class StageLadder:
    """Measures, prints, and remembers the rows.

    Args:
        options: what is measured.

    Attributes:
        rows: so far.
    """

    def __init__(self, options: LadderOptions) -> None:
        self.options = options
        self.device = torch.device(options.device)
        self.on_gpu = self.device.type == "cuda"
        self.tiny = options.dry_run
        self.dtype = torch.bfloat16 if self.on_gpu and not self.tiny else torch.float32
        self.repeats = 1 if self.tiny else 40
        self.rows: list[dict[str, Any]] = []
        self._began = time.perf_counter()

    @property
    def left_s(self) -> float:
        """Seconds of the budget that are left."""
        return self.options.budget_s - (time.perf_counter() - self._began)

    def row(self, name: str, rung: str = "", **values: Any) -> None:
        """Print one row at once."""
        self.rows.append(
            {"name": name, "rung": rung, "at_s": round(time.perf_counter() - self._began, 1), **values}
        )
        print(json.dumps(self.rows[-1]), flush=True)
        if self.options.out is not None:
            self.options.out.write_text(json.dumps(self.rows, indent=1) + "\n", encoding="utf-8")

    def section(self, name: str, work: Callable[[StageLadder], None]) -> None:
        """Run a section; nothing that goes wrong in it ends the ladder."""
        if self.options.only and name not in self.options.only:
            return
        if self.left_s <= 0:
            self.row(f"section {name}", skipped="the time is spent")
            return
        began = time.perf_counter()
        failed: dict[str, str] = {}
        try:
            if name == self.options.fail:
                raise RuntimeError("planted with --fail")
            with torch.inference_mode():
                work(self)
        except Exception as error:
            failed = {
                "error": f"{type(error).__name__}: {str(error)[:300]}",
                "where": traceback.format_exc().strip().splitlines()[-3].strip(),
            }
        self.row(f"section {name}", seconds=round(time.perf_counter() - began, 1), **failed)
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()

    def plan(self, rung: str) -> BackendPlan:
        """Return a plan that runs every stage on a rung."""
        return eager_plan() if rung == "eager" else BackendPlan.of(self.graphs())

    def graphs(self) -> CudaGraphs:
        """Return captured graphs, or their stand-in without a GPU."""
        return CudaGraphs() if self.on_gpu else CudaGraphs(new_capture=lambda: stand_in)

    def backend(self, rung: str) -> Backend:
        """Return what runs stages on a rung; without a GPU its graphs are the stand-in."""
        if rung == TRITON_NAME:
            kernels = OwnKernels(self.device)
            return CudaGraphs(kernels, name=rung, new_capture=None if self.on_gpu else lambda: stand_in)
        if rung == COMPILE_NAME:
            # Without a GPU nothing is compiled, but all else is as with one.
            regions = RegionalCompile(self.device, compiler=INDUCTOR if self.on_gpu else "eager")
            return CudaGraphs(regions, name=rung, new_capture=None if self.on_gpu else lambda: stand_in)
        return Eager() if rung == EAGER_NAME else self.graphs()

    def wait(self) -> None:
        """Wait for the device."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def timed(
        self, run: Callable[[], Any], *, repeats: int | None = None, warm_up: int = 3
    ) -> dict[str, float | None]:
        """Return the times of repeated runs [us]: on the device, and by the host's clock until it is done."""
        for _ in range(1 if self.tiny else warm_up):
            run()
        device: list[float] = []
        wall: list[float] = []
        for _ in range(repeats or self.repeats):
            self.wait()
            began = time.perf_counter()
            if self.on_gpu:
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                run()
                end.record()
                end.synchronize()
                device.append(start.elapsed_time(end) * 1e3)
            else:
                run()
            wall.append((time.perf_counter() - began) * 1e6)
        return {
            **{f"device_{name}_us": value for name, value in _percentiles(device).items()},
            **{f"wall_{name}_us": value for name, value in _percentiles(wall).items()},
        }

    def kernels(self, run: Callable[[], Any]) -> int:
        """Return the kernels of one run; without a GPU the operators."""
        if not self.on_gpu:
            counting: Any = _OperatorCount  # its base class in torch states no types
            with counting() as counted:
                run()
            return int(counted.count)
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            run()
            self.wait()
        return sum(str(event.device_type).endswith("CUDA") for event in seen.events())

    def stage(
        self,
        policy: str,
        spec: StageSpec,
        example: StageInputs,
        label: str,
        rungs: Sequence[str] = RUNGS,
    ) -> None:
        """Print a row for every rung of one stage and one set of shapes."""
        given = varied(example)
        args, kwargs = given.arguments()
        want = in_float32(spec, given)
        for rung in rungs:
            name = f"{policy} {spec.name}{label}"
            if self.left_s <= 0:
                self.row(name, rung, skipped="the time is spent")
                continue
            try:
                run: Callable[..., Any] = spec.module
                if rung != EAGER_NAME:
                    run = BoundStage(spec, self.backend(rung))
                call = functools.partial(run, *args, **kwargs)
                have = call()
                self.row(
                    name,
                    rung,
                    **self.timed(call),
                    # The tracer does not work under what counts operators.
                    kernels=self.kernels(call) if self.on_gpu or rung != COMPILE_NAME else None,
                    bytes=_bytes(spec, given, have),
                    error=None if want is None else difference(have, want),
                )
            except Exception as error:
                self.row(name, rung, error=f"{type(error).__name__}: {str(error)[:200]}")

    def stages(self, policy: str, specs: Sequence[StageSpec], rungs: Sequence[str] = RUNGS) -> None:
        """Print the rows of every stage; of several sets of shapes the first and the last."""
        for spec in specs:
            examples = list(spec.examples())
            chosen = examples if len(examples) < 2 else [examples[0], examples[-1]]
            for number, example in enumerate(chosen):
                label = "" if len(chosen) < 2 else f" [{'first' if number == 0 else 'last'} shapes]"
                self.stage(policy, spec, example, label, rungs)


def _percentiles(times: list[float]) -> dict[str, float | None]:
    if not times:
        return {"p50": None, "p95": None}
    ordered = sorted(times)
    return {
        "p50": round(statistics.median(ordered), 1),
        "p95": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 1),
    }


def varied(example: StageInputs) -> StageInputs:
    """Return inputs of the same shapes that are not all zeros."""
    generator = torch.Generator().manual_seed(0)

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if leaf.is_floating_point():
            return leaf + (0.5 * torch.randn(leaf.shape, generator=generator)).to(leaf)
        return leaf.flatten()[torch.randperm(leaf.numel(), generator=generator).to(leaf.device)].view_as(leaf)

    return StageInputs([one(leaf) for leaf in example.leaves], example.shape)


def in_float32(spec: StageSpec, given: StageInputs) -> list[Tensor] | None:
    """Return what the stage computes in float32; None for one without weights of its own."""
    if not isinstance(spec.module, nn.Module):
        return None
    exact = copy.deepcopy(spec.module).float()
    for part in vars(exact).values():
        # A stage may read sizes of a whole model that is no submodule of it.
        if isinstance(part, nn.Module):
            part.float()
    for module in exact.modules():
        for part in vars(module).values():
            if isinstance(part, nn.Module):
                part.float()
    tensors = [t.float() if t.is_floating_point() else t for t in given.tensors]
    args, kwargs = given.arguments(tensors)
    return [leaf.cpu() for leaf in pytree.tree_leaves(exact(*args, **kwargs))]


def difference(have: Any, want: list[Tensor]) -> float:
    """Return the relative difference of results; of whole numbers the share that differs."""
    worst = 0.0
    for mine, theirs in zip(pytree.tree_leaves(have), want, strict=True):
        mine = mine.cpu()
        if not mine.is_floating_point():
            worst = max(worst, float((mine != theirs).double().mean()))
            continue
        size = float(theirs.double().norm())
        worst = max(worst, float((mine.double() - theirs.double()).norm()) / max(size, 1e-30))
    return worst


def _bytes(spec: StageSpec, given: StageInputs, have: Any) -> int:
    weights = list(spec.module.parameters()) if isinstance(spec.module, nn.Module) else []
    moved = [*weights, *given.tensors, *pytree.tree_leaves(have)]
    return sum(one.numel() * one.element_size() for one in moved)
