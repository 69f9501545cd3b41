# SPDX-License-Identifier: Apache-2.0
"""Test-time scaling in figures: evaluations by kind, time and operations of one chunk for each q.

"naive" recomputes everything at every evaluation, as Algorithm 2 is written; "cached" leaves out what
`wam.policies.dust.schedule.Savings` lists. Both give the same actions.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wam.policies.bundles import open_policy, require_device
from wam.policies.dust.config import DustConfig
from wam.policies.dust.cost import chunk_cost
from wam.policies.dust.head import DustHead
from wam.policies.dust.policy import check, load_head, prompter_of
from wam.policies.dust.records import FeatureKv
from wam.policies.dust.sampling import build_tables, noise, sample
from wam.policies.dust.schedule import ALL_SAVINGS, NO_SAVINGS, ActionRule, SamplerSettings, Savings, schedule
from wam.policies.dust.stages import SLOT

VARIANTS: dict[str, Savings] = {"naive": NO_SAVINGS, "cached": ALL_SAVINGS}
WARM_UP = 2


@dataclass(frozen=True, slots=True)
class ChunkFigures:
    """One row of the table.

    Attributes:
        q: evaluations per move of the actions.
        variant: "naive" or "cached".
        evaluations: by kind, and "total".
        p50_ms: median time of one chunk [ms].
        min_ms: shortest time [ms].
        flops: operations of the head, counted on the meta device.
    """

    q: int
    variant: str
    evaluations: dict[str, int]
    p50_ms: float
    min_ms: float
    flops: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for `--json`."""
        return {
            "q": self.q,
            "variant": self.variant,
            "evaluations": self.evaluations,
            "p50_ms": round(self.p50_ms, 4),
            "min_ms": round(self.min_ms, 4),
            "gflops": round(self.flops / 1e9, 6),
        }


def bench_chunk(
    policy: str | Path = "dust/random",
    *,
    qs: Sequence[int] = (1, 4, 16),
    device: str = "cpu",
    threads: int = 1,
    rule: ActionRule = ActionRule.END,
    repeats: int = 20,
    stage: Callable[[str], None] = lambda _text: None,
) -> list[ChunkFigures]:
    """Measure one chunk of a policy for each q, naive and cached, actions only.

    Args:
        policy: bundle or built-in name.
        qs: test-time scaling factors.
        device: where it runs.
        threads: CPU threads of torch, set for the whole process.
        rule: when the actions move.
        repeats: chunks that are timed.
        stage: called with what is being measured.

    Raises:
        BundleError: the bundle does not fit, or the device is absent.
        ConfigError: a q is not positive.
    """
    bundle = open_policy(policy)
    config = check(bundle)
    require_device(device)
    torch.set_num_threads(threads)
    settings = [
        SamplerSettings(action_steps=config.sampler.action_steps, q=q, rule=rule, future=False) for q in qs
    ]
    head = load_head(bundle, config.network, device=device, dtype=None)
    head.keep_embodiment(config.embodiment)
    rows = int(prompter_of(bundle, config)(bundle.manifest.instruction).shape[1])
    figures = []
    for setting in settings:
        for variant, savings in VARIANTS.items():
            stage(f"q = {setting.q}, {variant}")
            times = time_chunks(head, setting, savings, feature_rows=rows, repeats=repeats)
            cost = chunk_cost(config.network, feature_rows=rows, settings=setting, savings=savings)
            figures.append(
                ChunkFigures(
                    setting.q, variant, cost.evaluations, statistics.median(times), min(times), cost.flops
                )
            )
    return figures


@torch.inference_mode()
def time_chunks(
    head: DustHead, settings: SamplerSettings, savings: Savings, *, feature_rows: int, repeats: int
) -> list[float]:
    """Return the durations of `repeats` chunks after warm-up [ms].

    Args:
        head: with the weights of one robot.
        settings: of the sampler.
        savings: what is not repeated.
        feature_rows: S, rows of the (random) features.
        repeats: timed chunks.
    """
    generator = torch.Generator().manual_seed(0)
    config: DustConfig = head.config
    features = torch.randn(1, feature_rows, config.width, generator=generator).to(head.device, head.dtype)
    state = torch.randn(1, 1, config.state_dim, generator=generator).to(head.device)
    plan = schedule(settings, savings=savings)
    tables = build_tables(head, plan, slot=SLOT) if savings.tables else None
    times = []
    for i in range(WARM_UP + repeats):
        action, future = noise(config, batch=1, generator=generator, device=head.device)
        _synchronise(head.device)
        began = time.perf_counter_ns()
        kv: FeatureKv | Callable[[], FeatureKv] = lambda: head.project_features(features)  # noqa: E731
        if savings.features_once:
            kv = head.project_features(features)
        sample(
            head,
            features=kv,
            state_BTJ=state,
            slot=SLOT,
            action_BNA=action,
            future_BPO=future,
            plan=plan,
            tables=tables,
        )
        _synchronise(head.device)
        if i >= WARM_UP:
            times.append((time.perf_counter_ns() - began) / 1e6)
    return times


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
