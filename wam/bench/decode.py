# SPDX-License-Identifier: Apache-2.0
"""`wam bench decode`: ways to decode 817 tokens with the same weights, at the released length and vocabulary.

A speed is generated tokens (817, all of them) divided by the time of a chunk. The weights are random, because
the policy's vocabulary need not be the released one; its sizes are kept.

Where only torch and transformers are installed: `python -m wam.bench.decode --preset paper --device cuda --json`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from wam.bench.decode_methods import Effort, Workload
from wam.bench.result import Bar, BenchResult
from wam.core.errors import ConfigError, WamError
from wam.policies.ud_vla.config import PRESETS, UdVlaConfig, preset, released_geometry

STEPS = 72
"""T of the published CALVIN run, at which the paper's speeds were measured."""
TWO_STAGE_STEPS = 92
"""Steps of the published two-stage sampler: 64 for the image, 28 for the action."""
PART = Effort(steps=12, sites=64)
"""What is timed on a CPU."""
WHOLE = Effort(repeats=1)
"""What is timed on a GPU: whole chunks, once, since each is hundreds of evaluations."""
PAPER_RATIO = 4.3
"""Of JD3P over autoregression, for 8 B weights on a GPU: the limit there. On a CPU it cannot be reached."""
CPU_BARS = {"released_over_iteration": Bar(10.0, "min"), "ar_row_over_jd3p_row": Bar(5.0, "min")}
"""Both sides of each ratio run on the same CPU, and neither depends on T: what the suite saves of the public function's
step, and what a row saves by being computed beside the others of its pass instead of alone."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def run(
    stage: Callable[[str], None],
    *,
    policy: str | Path = "ud_vla/random",
    preset: str | None = None,
    layers: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    steps: int = STEPS,
) -> BenchResult:
    """Measure.

    Args:
        stage: called with what begins.
        policy: bundle or built-in name whose sizes are used; not looked at with `preset`.
        preset: sizes to take instead.
        layers: override the number of layers, to fit a smaller memory.
        device: where it runs; None takes the GPU where there is one.
        dtype: of the weights; None takes bfloat16 on a GPU and float32 elsewhere.
        steps: T of JD3P.

    Raises:
        ConfigError: the policy is of another kind, or an option is illegal.
        BundleError: there is no such policy.
    """
    config = released_geometry(_sizes(policy, preset))
    if layers is not None:
        if layers < 1:
            raise ConfigError("bench decode: layers", value=layers, allowed="from 1", where="--layers")
        config = replace(config, layers=layers)
    if steps < 1:
        raise ConfigError("bench decode: steps", value=steps, allowed="from 1", where="--steps")
    target = _device(device)
    on_gpu = target.type == "cuda"
    if dtype not in (None, *DTYPES):
        raise ConfigError("bench decode: dtype", value=dtype, allowed=" or ".join(DTYPES), where="--dtype")
    precision = dtype or ("bfloat16" if on_gpu else "float32")
    threads = idle_cores()
    torch.set_num_threads(threads)
    effort = WHOLE if on_gpu else PART
    stage("weights")
    work = Workload(config, device=target, dtype=DTYPES[precision], effort=effort)
    seconds: dict[str, float] = {}
    stage("autoregressive")
    seconds["ar"] = work.autoregressive()
    stage("autoregressive as released")
    seconds["released_ar"] = work.released_autoregressive()
    stage("Jacobi")
    seconds["jacobi"] = work.jacobi()
    stage("independent diffusion")
    uncached, cached = work.uncached(), work.cached()
    seconds["independent"] = work.independent(uncached, TWO_STAGE_STEPS)
    for name, evaluate in (("jd3p", uncached), ("jd3p_cached", cached)):
        stage(name)
        seconds[name] = work.jd3p(evaluate, steps)
    stage("one step of the released function")
    released_ms = work.released_step() * 1e3
    results = {f"{name}_tokens_per_s": work.tokens / value for name, value in seconds.items()}
    best = min(seconds["jd3p"], seconds["jd3p_cached"])
    results["jd3p_over_ar"] = seconds["ar"] / best
    results["jd3p_uncached_over_ar"] = seconds["ar"] / seconds["jd3p"]
    results["jd3p_over_released_ar"] = seconds["released_ar"] / best
    results["ar_row_over_jd3p_row"] = steps * results["jd3p_over_ar"]
    results["steps_for_paper_ratio"] = float(int(steps * results["jd3p_over_ar"] / PAPER_RATIO))
    results["iteration_ms"] = seconds["jd3p"] / steps * 1e3
    results["iteration_cached_ms"] = seconds["jd3p_cached"] / steps * 1e3
    results["released_iteration_ms"] = released_ms
    results["released_over_iteration"] = released_ms / results["iteration_cached_ms"]
    parameters = sum(p.numel() for p in work.decoder.parameters())
    return BenchResult(
        {name: round(value, 3) for name, value in results.items()},
        {"jd3p_over_ar": Bar(PAPER_RATIO, "min")} if on_gpu else CPU_BARS,
        _notes(config, parameters, steps, f"{_name(target)}, {threads} threads, {precision}", effort),
    )


def idle_cores() -> int:
    """Return the number of threads: two that share a core wait for each other at every operation."""
    idle = len(os.sched_getaffinity(0)) - round(os.getloadavg()[0])
    return max(1, min(torch.get_num_threads(), idle))


def _sizes(policy: str | Path, name: str | None) -> UdVlaConfig:
    if name is not None:
        if name not in PRESETS:
            raise ConfigError(
                "bench decode: preset", value=name, allowed=", ".join(PRESETS), where="--preset"
            )
        return preset(name)
    # Only here, because it needs more of the suite than a bare GPU machine has.
    from wam.policies.bundles import open_policy
    from wam.policies.ud_vla.contents import KIND, check

    bundle = open_policy(policy)
    if bundle.manifest.kind != KIND:
        raise ConfigError("bench decode: policy", value=bundle.manifest.kind, allowed=KIND, where="--policy")
    return check(bundle).network


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise ConfigError(
            "bench decode: device", value=name, allowed="cpu or cuda", where="--device"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("the device is absent", value=name, allowed="cpu on this machine", where="--device")
    return device


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} of this machine"


def _notes(config: UdVlaConfig, parameters: int, steps: int, place: str, effort: Effort) -> tuple[str, ...]:
    notes = [
        f"width {config.hidden}, {config.layers} layers, {parameters:,} random weights; {place}",
        f"a speed counts all 817 generated tokens; JD3P takes {steps} steps, the two-stage sampler "
        f"{TWO_STAGE_STEPS}",
        "all methods compute logits of the allowed ids only; released_ar and released_iteration do as the public "
        "code does and compute all 184,622",
        "steps_for_paper_ratio: most steps at which JD3P with a cached prefix would reach the paper's figure here",
    ]
    if effort is PART:
        notes += [
            f"on a CPU {effort.steps} steps and {effort.sites} sites are timed and scaled up",
            "limits on a CPU: the public function's step over ours, and a row alone over a row of a pass, at the "
            "width of the built-in policy; at the width of 8 B weights the columns that the public function computes "
            "in vain are a small part",
            "jd3p_over_ar has no limit on a CPU: the paper's 4.3 is for an 8 B network on a GPU; here a pass over 817 "
            "rows has 817 times the arithmetic of one over a single row, so that 72 of the former are slower",
        ]
    return tuple(notes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench without the `wam` command; results go to stdout as JSON, progress and notes to stderr.

    Returns:
        0 where every limit was kept, 1 where one was missed or the bench could not run.
    """
    parser = argparse.ArgumentParser(prog="python -m wam.bench.decode", description=__doc__)
    parser.add_argument(
        "--policy", default="ud_vla/random", help="bundle or built-in name whose sizes are used"
    )
    parser.add_argument(
        "--preset", choices=sorted(PRESETS), help="preset whose sizes are used instead of a policy's"
    )
    parser.add_argument("--layers", type=int, help="override the number of layers")
    parser.add_argument("--device", help="cpu or cuda; default: the GPU where there is one")
    parser.add_argument("--dtype", choices=sorted(DTYPES), help="of the weights")
    parser.add_argument("--steps", type=int, default=STEPS, help="T of JD3P")
    parser.add_argument(
        "--json", action="store_true", help="accepted as by `wam bench`; the output is JSON anyway"
    )
    options = vars(parser.parse_args(arguments))
    options.pop("json")
    try:
        measured = run(lambda text: print(text, file=sys.stderr), **options)
    except WamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(measured.as_json(), indent=2))
    for note in measured.notes:
        print(f"note: {note}", file=sys.stderr)
    return 0 if measured.ok else 1


if __name__ == "__main__":
    sys.exit(main())
