# SPDX-License-Identifier: Apache-2.0
"""Times AHA-WAM at any preset's size with random weights that are made on the device itself.

    python -m wam.models.aha_wam.full_size --preset paper --device cuda --dtype bfloat16 --steps 10,4,2,1

A bundle of the paper's size is 15 GB that nobody wants to write for a benchmark; times do not depend on the values
of the weights. Planner and executor are the classes that the nodes run, from images in host memory to action rows in
host memory; the rolling memory is full before anything counts. Needs torch, safetensors, numpy and OpenCV alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import platform
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from wam.core.contract import CameraContract, PolicyContract
from wam.core.policy import LoadedPolicy
from wam.models.aha_wam import stages
from wam.models.aha_wam.config import PRESETS, AhaWamConfig, preset
from wam.models.aha_wam.context import codec
from wam.models.aha_wam.executor import AhaExecutor
from wam.models.aha_wam.initialise import random_vae
from wam.models.aha_wam.model import AhaWam
from wam.models.aha_wam.ovcr import INITIAL_GATE
from wam.models.aha_wam.planner import AhaPlanner
from wam.models.aha_wam.vae import collapse
from wam.models.aha_wam.vision import VisualEncoder
from wam.models.bench import measure
from wam.models.images import standard_layout
from wam.models.layout import RobotLayout
from wam.models.normalisation import Normaliser
from wam.models.text import HashTextEncoder

GIB = 2**30


def fill(model: nn.Module, *, seed: int) -> None:
    """Give an uninitialised network weights that keep every activation finite.

    Args:
        model: on its device, memory not yet written.
        seed: of the draws.
    """
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("delta_gate"):
            nn.init.constant_(parameter, INITIAL_GATE)
        elif parameter.dim() >= 2:
            spread = parameter.shape[1:].numel() ** -0.5
            nn.init.normal_(parameter, std=spread, generator=generator)
        else:
            nn.init.constant_(parameter, float(name.endswith("weight")))


def random_policy(
    config: AhaWamConfig, *, device: torch.device | str, dtype: torch.dtype, steps: int, seed: int = 0
) -> LoadedPolicy:
    """Return both halves with random weights, without a bundle.

    Args:
        config: sizes; its widths of state and action must be those of two Piper arms, 14.
        device: where the weights are made.
        dtype: of the weights.
        steps: integration steps.
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
    vision = VisualEncoder(functools.partial(stages.vae_encode, encoder), layout=layout, device=device)
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
    )
    executor = AhaExecutor(
        model,
        contract=contract,
        vision=vision,
        state_norm=state_norm,
        action_norm=Normaliser(stats.action),
        steps=steps,
        seed=seed,
    )
    return LoadedPolicy(contract, planner, executor, codec())


def bench(
    name: str, *, device: str, dtype: torch.dtype, steps: Sequence[int], repeats: int
) -> dict[str, Any]:
    """Return `results` and `machine` as `wam bench` prints them.

    Args:
        name: of a preset.
        device: "cpu" or "cuda".
        dtype: of the weights.
        steps: integration steps to time a chunk with.
        repeats: calls that count.
    """
    config = preset(name)
    results: dict[str, float] = {}
    for count in steps:
        policy = random_policy(config, device=device, dtype=dtype, steps=count)
        timings = measure(policy, repeats=repeats)
        for what, timing in (("prefill", timings["prefill"]), (f"chunk_{count}_steps", timings["chunk"])):
            for key, value in dataclasses.asdict(timing).items():
                if key != "count":
                    results.setdefault(f"{what}_{key}", round(value, 3))
        del policy
    machine: dict[str, Any] = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }
    if device != "cpu":
        results["peak_memory_gib"] = round(torch.cuda.max_memory_allocated() / GIB, 2)
        machine["gpu"] = torch.cuda.get_device_name()
    return {
        "name": "aha_wam_full_size",
        "preset": name,
        "dtype": str(dtype).removeprefix("torch."),
        "backend": "eager",
        "results": results,
        "machine": machine,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse arguments, measure, print one JSON object."""
    parser = argparse.ArgumentParser(
        prog="python -m wam.models.aha_wam.full_size",
        description="Time AHA-WAM of any size with random weights.",
    )
    parser.add_argument("--preset", choices=sorted(PRESETS), default="paper")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--steps", default="10,4,2,1", help="integration steps, comma separated")
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    options = parser.parse_args(arguments)
    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"--device {options.device}: this machine has no CUDA device; --device cpu works")
    try:
        steps = [int(word) for word in options.steps.split(",")]
    except ValueError:
        parser.error(f"--steps {options.steps}: allowed are whole numbers, comma separated, e.g. 10,2")
    if min(steps) < 1 or options.repeats < 1:
        parser.error("--steps and --repeats must be at least 1")
    torch.set_num_threads(options.threads)
    result = bench(
        options.preset,
        device=options.device,
        dtype=getattr(torch, options.dtype),
        steps=steps,
        repeats=options.repeats,
    )
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
