# SPDX-License-Identifier: Apache-2.0
"""What benchmarks at a policy's full size share: random weights made on the device, options, one JSON object.

A bundle of such a size is many gigabytes, too much to write for a benchmark; times do not depend on the values
of the weights, as long as they stay finite.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import nn

GIB = 2**30


def fill(model: nn.Module, *, seed: int) -> None:
    """Give an uninitialised network weights that keep every activation finite.

    Matrices get the spread at which a layer keeps the size of its input, vectors named "weight" (norms) become one, and
    all other vectors zero. Buffers, such as positions, become zero too, and running variances one.

    Args:
        model: on its device, memory not yet written.
        seed: of the draws.
    """
    generator = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:
            nn.init.normal_(parameter, std=parameter.shape[1:].numel() ** -0.5, generator=generator)
        else:
            nn.init.constant_(parameter, float(name.endswith("weight")))
    for name, buffer in model.named_buffers():
        nn.init.constant_(buffer, float(name.endswith("var")))


def full_size_parser(kind: str, *, presets: Collection[str]) -> argparse.ArgumentParser:
    """Return a parser with the options that all kinds share.

    Args:
        kind: of policy.
        presets: names of its sizes; "paper" among them.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m wam.models.{kind}.full_size",
        description="Time a policy of any size with random weights that are generated on the device.",
    )
    parser.add_argument("--preset", choices=sorted(presets), default="paper")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--repeats", type=int, default=60, help="number of timed calls")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    return parser


def read_options(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse, check, and set the threads of torch; an error ends the program with one line."""
    options = parser.parse_args(arguments)
    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"--device {options.device}: this machine has no CUDA device; --device cpu works")
    for name in ("repeats", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)}: allowed are numbers from 1")
    torch.set_num_threads(options.threads)
    return options


def whole_numbers(parser: argparse.ArgumentParser, option: str, text: str) -> list[int]:
    """Return the numbers of a comma separated option; an error ends the program with one line."""
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        numbers = [0]
    if min(numbers) < 1:
        parser.error(f"{option} {text}: allowed: comma-separated integers of 1 or more, e.g. 10,2")
    return numbers


def report(kind: str, options: argparse.Namespace, results: Mapping[str, float]) -> str:
    """Return what was measured as JSON, in the form of `wam bench`."""
    machine: dict[str, object] = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }
    if options.device != "cpu":
        machine["gpu"] = torch.cuda.get_device_name()
    names = {"name": f"{kind}_full_size", "preset": options.preset, "dtype": options.dtype}
    return json.dumps({**names, "results": dict(results), "machine": machine}, indent=2)
