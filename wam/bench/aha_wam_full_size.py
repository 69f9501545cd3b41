# SPDX-License-Identifier: Apache-2.0
"""Times AHA-WAM at any preset's size with random weights generated on the device.

    python -m wam.bench.aha_wam_full_size --preset paper --device cuda --dtype bfloat16 --steps 10,4,2,1

A bundle of the paper's size is 15 GB, too much to write for a benchmark; times do not depend on the values
of the weights. Planner and executor are the classes that the nodes run, from images in host memory to action rows in
host memory; the rolling memory is full before anything counts. Needs torch, safetensors, numpy and OpenCV alone.
"""

from __future__ import annotations

import dataclasses
import gc
import sys
import time
from collections.abc import Sequence

import torch

from wam.bench.full_size import GIB, fill, full_size_parser, read_options, report, whole_numbers
from wam.bench.policy import measure
from wam.core.contract import CameraContract, PolicyContract
from wam.core.errors import WamError
from wam.core.policy import LoadedPolicy
from wam.models.backends.choice import choose_plan
from wam.models.backends.plan import BackendPlan
from wam.models.images import standard_layout
from wam.models.normalisation import Normaliser
from wam.models.robot_layout import RobotLayout
from wam.models.text import HashTextEncoder
from wam.policies.aha_wam.config import PRESETS, AhaWamConfig, preset
from wam.policies.aha_wam.context import codec
from wam.policies.aha_wam.executor import AhaExecutor
from wam.policies.aha_wam.initialise import random_vae
from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.planner import AhaPlanner
from wam.policies.aha_wam.policy import image_stage
from wam.policies.aha_wam.vae import collapse
from wam.policies.aha_wam.vision import VisualEncoder


def random_policy(
    config: AhaWamConfig,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    steps: int,
    plan: BackendPlan,
    seed: int = 0,
) -> LoadedPolicy:
    """Return both halves with random weights, without a bundle.

    Args:
        config: sizes; its widths of state and action must be those of two Piper arms, 14.
        device: where the weights are made.
        dtype: of the weights.
        steps: integration steps.
        plan: what runs the stages.
        seed: of weights and start noise.
    """
    robot = RobotLayout()
    with torch.device("meta"):
        model = AhaWam(config)
    model = model.to(dtype).to_empty(device=device)
    fill(model, seed=seed)
    model.eval().requires_grad_(False)
    layout = standard_layout(robot.cameras, height=config.image_height, width=config.image_width)
    encoder = collapse(random_vae(config.vae, seed=seed), config.vae, dtype=dtype).to(device)
    encode = plan.prepare(image_stage(encoder, layout, device=device))
    vision = VisualEncoder(encode, layout=layout, device=device)
    contract = PolicyContract(
        kind="aha_wam",
        contract_hash="0" * 64,
        cameras=tuple(CameraContract(t.camera, t.height, t.width) for t in layout.tiles),
        state_joints=robot.state_joints,
        action_joints=robot.action_joints,
        control_period_ns=robot.control_period_ns,
        chunk_rows=config.chunk_rows,
        horizon_rows=config.horizon_rows,
        instruction=robot.instruction,
    )
    stats = robot.stats()
    state_norm = Normaliser(stats.state)
    planner = AhaPlanner(
        model,
        contract=contract,
        vision=vision,
        text=HashTextEncoder(text_len=config.context_len, width=config.text_dim),
        template="{task}",
        state_norm=state_norm,
        plan=plan,
    )
    executor = AhaExecutor(
        model,
        contract=contract,
        vision=vision,
        state_norm=state_norm,
        action_norm=Normaliser(stats.action),
        steps=steps,
        seed=seed,
        plan=plan,
    )
    return LoadedPolicy(contract, planner, executor, codec())


def bench(
    name: str, *, device: str, dtype: torch.dtype, steps: Sequence[int], backend: str, repeats: int
) -> dict[str, float]:
    """Return metric -> number.

    Args:
        name: of a preset.
        device: "cpu" or "cuda".
        dtype: of the weights.
        steps: integration steps to time a chunk with.
        backend: "eager" or "cuda_graph".
        repeats: timed calls.
    """
    config = preset(name)
    results: dict[str, float] = {}
    for count in steps:
        chosen = choose_plan(backend, device=device)
        began = time.perf_counter()
        policy = random_policy(config, device=device, dtype=dtype, steps=count, plan=chosen)
        results.setdefault(f"{backend}_warm_up_s", round(time.perf_counter() - began, 2))
        timings = measure(policy, repeats=repeats)
        for what, timing in (("prefill", timings["prefill"]), (f"chunk_{count}_steps", timings["chunk"])):
            for key, value in dataclasses.asdict(timing).items():
                if key != "count":
                    results.setdefault(f"{backend}_{what}_{key}", round(value, 3))
        # A graph keeps its memory until it is collected; the next policy shall not be counted on top of this one.
        del policy, chosen
        gc.collect()
        if device != "cpu":
            results[f"{backend}_peak_memory_gib"] = round(torch.cuda.max_memory_allocated() / GIB, 2)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse arguments, measure, print one JSON object."""
    parser = full_size_parser("aha_wam", presets=PRESETS)
    parser.add_argument("--steps", default="10,4,2,1", help="integration steps, comma separated")
    parser.add_argument("--backends", default="eager,cuda_graph", help="backends, comma separated")
    options = read_options(parser, arguments)
    steps = whole_numbers(parser, "--steps", options.steps)
    results: dict[str, float] = {}
    try:
        for backend in options.backends.split(","):
            results |= bench(
                options.preset,
                device=options.device,
                dtype=getattr(torch, options.dtype),
                steps=steps,
                backend=backend,
                repeats=options.repeats,
            )
    except WamError as error:
        parser.error(str(error))
    print(report("aha_wam", options, results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
