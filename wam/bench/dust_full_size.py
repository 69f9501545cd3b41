# SPDX-License-Identifier: Apache-2.0
"""Times DUST's head at any preset's size with random weights generated on the device.

    python -m wam.bench.dust_full_size --preset paper --device cuda --dtype bfloat16 --q 1,4,16

One chunk from features to action rows, for each q naive and with all savings, as `wam bench chunk --q` times a bundle.
The vision-language model, which runs in the planner, is not part of it.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence

import torch

from wam.bench.dust import VARIANTS, time_chunks
from wam.bench.full_size import GIB, fill, full_size_parser, read_options, report, whole_numbers
from wam.policies.dust.config import PRESETS, preset
from wam.policies.dust.head import DustHead
from wam.policies.dust.schedule import SamplerSettings

FEATURE_ROWS = 240
"""Rows of the vision-language features of two cameras and a short instruction."""


def bench(name: str, *, device: str, dtype: torch.dtype, qs: Sequence[int], repeats: int) -> dict[str, float]:
    """Return metric -> number.

    Args:
        name: of a preset.
        device: "cpu" or "cuda".
        dtype: of the weights.
        qs: evaluations of the vision stream per move of the actions.
        repeats: timed chunks.
    """
    config = preset(name)
    with torch.device("meta"):
        head = DustHead(config)
    head = head.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    fill(head, seed=0)
    head.keep_embodiment(0)
    results: dict[str, float] = {}
    for q in qs:
        for variant, savings in VARIANTS.items():
            settings = SamplerSettings(q=q, future=False)
            times = time_chunks(head, settings, savings, feature_rows=FEATURE_ROWS, repeats=repeats)
            results[f"chunk_q{q}_{variant}_p50_ms"] = round(statistics.median(times), 3)
            results[f"chunk_q{q}_{variant}_min_ms"] = round(min(times), 3)
    if device != "cpu":
        results["peak_memory_gib"] = round(torch.cuda.max_memory_allocated() / GIB, 2)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse arguments, measure, print one JSON object."""
    parser = full_size_parser("dust", presets=PRESETS)
    parser.add_argument("--q", default="1,4,16", help="test-time scaling factors, comma separated")
    options = read_options(parser, arguments)
    qs = whole_numbers(parser, "--q", options.q)
    dtype = getattr(torch, options.dtype)
    results = bench(options.preset, device=options.device, dtype=dtype, qs=qs, repeats=options.repeats)
    print(report("dust", options, results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
