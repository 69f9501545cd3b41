# SPDX-License-Identifier: Apache-2.0
"""The backend `triton` on stages of tiny policies, in Triton's interpreter; asked as `kernel_measurements` is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import kernel_measurements  # first: it lets triton interpret, and repairs bfloat16
import torch
from fake_graphs import FakeCapture
from torch import Tensor
from torch.utils import _pytree as pytree

from wam.bench.aha_wam_full_size import random_policy
from wam.bench.ladder import StageCollector, difference, varied
from wam.core.errors import PolicyFault
from wam.models.backends.bound import BoundStage
from wam.models.backends.cuda_graph import CudaGraphs
from wam.models.backends.own_kernels import OwnKernels
from wam.models.backends.stage import StageSpec
from wam.models.kernels import run
from wam.policies.aha_wam import config as aha_config
from wam.policies.dust import config as dust_config
from wam.policies.dust.head import DustHead
from wam.policies.dust.schedule import Kind
from wam.policies.dust.stages import SLOT, HeadStages
from wam.policies.ud_vla import config as ud_config
from wam.policies.ud_vla.initialise import random_decoder
from wam.policies.ud_vla.sequence import SequenceLayout
from wam.policies.ud_vla.stages import pass_stage


@functools.cache
def aha_stages(layers: int = 3, steps: int = 2) -> dict[str, StageSpec]:
    """Return the stages of a tiny AHA-WAM by name."""
    plan, config = StageCollector(), aha_config.tiny()
    config = replace(
        config, video=replace(config.video, layers=layers), action=replace(config.action, layers=layers)
    )
    policy = random_policy(config, device="cpu", dtype=torch.float32, steps=steps, plan=plan)
    assert policy.planner is not None
    assert policy.executor is not None
    return {spec.name: spec for spec in plan.specs}


@functools.cache
def dust_stages() -> dict[str, StageSpec]:
    """Return the stages of a tiny head of DUST by name."""
    head = DustHead(dust_config.tiny()).eval().requires_grad_(False)
    kernel_measurements.randomise(head)
    head.keep_embodiment(SLOT)
    head.merge_projections()
    plan = StageCollector()
    HeadStages(head, plan, feature_rows=12).meet(tuple(Kind))
    return {spec.name: spec for spec in plan.specs}


@functools.cache
def ud_vla_stages() -> dict[str, StageSpec]:
    """Return the pass of a tiny UD-VLA by name."""
    # Heads of 16, the least that the kernels rotate.
    config, grids = replace(ud_config.tiny(), hidden=64, layers=2), ((4, 4), (2, 2))
    decoder = random_decoder(config, seed=0, device="cpu", dtype=torch.float32)
    layout = SequenceLayout(config.tokens, grids, 12)
    codes = [torch.arange(h * w).reshape(h, w) % config.tokens.visual_count for h, w in grids]
    plan = StageCollector()
    pass_stage(decoder, plan, layout=layout, prefix=layout.prefix(list(range(20)), codes))
    return {spec.name: spec for spec in plan.specs}


STAGES: dict[str, Callable[[], dict[str, StageSpec]]] = {
    "aha_wam": aha_stages,
    "dust": dust_stages,
    "ud_vla": ud_vla_stages,
}


def stage(policy: str, name: str, shapes: str = "first") -> float:
    """Return how far a stage by the backend is from the stage as it is written, for its first or last shapes."""
    spec = STAGES[policy]()[name]
    given = varied(list(spec.examples())[0 if shapes == "first" else -1])
    with torch.inference_mode():
        want: list[Tensor] = pytree.tree_leaves(spec.module(*given.arguments()[0]))
        return difference(OwnKernels("cpu").load(spec, given).run(given.tensors), want)


def loaded() -> dict[str, Any]:
    """Capture and judge one step of a chunk as a loading policy does, then run it on other inputs."""
    with torch.inference_mode():
        captured = _captured()
        captured.meet_examples()
        args, _ = varied(captured.stage.examples()[0]).arguments()
        apart = difference(captured(*args), [captured.stage.module(*args)])
    return {
        "difference": apart,
        "passed": [verdict.passed for verdict in captured.verdicts],
        "variants": captured.variants,
        "unseen": captured.unseen,
    }


def _captured() -> BoundStage:
    """Return a denoising of one step and one layer, on captured kernels."""
    spec = aha_stages(layers=1, steps=1)["denoise"]
    return BoundStage(spec, CudaGraphs(OwnKernels("cpu"), name="triton", new_capture=FakeCapture))


@contextmanager
def short_sum() -> Iterator[None]:
    """One program of eight leaves its share of a sum away, as after a race."""
    right = run.project_residual

    def wrong(a_MK: Tensor, *rest: Any, **named: Any) -> None:
        short = a_MK.clone()
        short[:, -(a_MK.shape[1] // 8) :] = 0
        right(short, *rest, **named)

    run.project_residual = wrong
    try:
        yield
    finally:
        run.project_residual = right


FAULTS = {"short sum": short_sum}


def planted(fault: str) -> str:
    """Return how the gate refuses a wrong kernel; "" where it lets it pass."""
    with torch.inference_mode(), FAULTS[fault]():
        try:
            _captured().meet_examples()
        except PolicyFault as error:
            return str(error)
    return ""


if __name__ == "__main__":
    kernel_measurements.answer_with({one.__name__: one for one in (stage, loaded, planted)})
