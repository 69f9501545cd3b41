# SPDX-License-Identifier: Apache-2.0
"""What one chunk costs: evaluations by kind and floating-point operations, counted on the meta device.

An operation is a multiplication or an addition of a matrix product (2 per multiply-add), as torch counts them.
Modulation tables are made once per model and sampler, not per chunk, so they are not part of a chunk.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from wam.policies.dust.config import DustConfig
from wam.policies.dust.eagle import EagleBackbone
from wam.policies.dust.head import DustHead
from wam.policies.dust.sampling import ChunkVelocity, Tables
from wam.policies.dust.schedule import NO_SAVINGS, SamplerSettings, Savings, schedule

META = torch.device("meta")


@dataclass(frozen=True, slots=True)
class ChunkCost:
    """Cost of one chunk.

    Attributes:
        label: which savings are on.
        evaluations: by kind, and "total".
        flops: of the head.
    """

    label: str
    evaluations: dict[str, int]
    flops: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a report."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@functools.lru_cache(maxsize=4)
def _meta_head(config: DustConfig) -> DustHead:
    with META:
        head = DustHead(config).eval().requires_grad_(False)
    head.keep_embodiment(0)
    return head


def _count(run: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


@torch.no_grad()
def chunk_cost(
    config: DustConfig, *, feature_rows: int, settings: SamplerSettings, savings: Savings, label: str = ""
) -> ChunkCost:
    """Count one chunk of the head.

    Every distinct evaluation is run once on the meta device and multiplied by how often it occurs.

    Args:
        config: sizes and readings.
        feature_rows: S, rows of the features.
        settings: of the sampler.
        savings: what is not repeated.
        label: name of the result.
    """
    head = _meta_head(config)
    plan = schedule(settings, savings=savings)
    features = torch.empty(1, feature_rows, config.width, device=META)
    state = torch.empty(1, 1, config.state_dim, device=META)
    action = torch.empty(1, config.action_rows, config.action_dim, device=META)
    future: Tensor | None = None
    bucket = torch.zeros(1, dtype=torch.int64, device=META)
    vision_levels = {}
    if head.has_vision:
        future = torch.empty(1, config.vision_tokens, config.vision_dim, device=META)
        vision_levels = dict.fromkeys((e.bucket_o for e in plan.evaluations), head.vision_modulation(bucket))
    action_levels = dict.fromkeys((e.bucket_a for e in plan.evaluations), head.action_modulation(bucket, 0))
    kv = head.project_features(features)
    made: list[ChunkVelocity] = []

    def start() -> None:
        made.append(
            ChunkVelocity(
                head,
                features=kv if savings.features_once else lambda: head.project_features(features),
                state_BTJ=state,
                slot=0,
                savings=savings,
                tables=Tables(action_levels, vision_levels),
            )
        )

    total = _count(start)
    if savings.features_once:
        total += _count(lambda: head.project_features(features))
    known: dict[tuple[bool, bool, bool], int] = {}
    for e in plan.evaluations:
        key = (e.want_action, e.want_vision, e.same_action and savings.reuse_frozen_action)
        if key not in known:
            known[key] = _count(functools.partial(made[0], action, future, e))
        total += known[key]
    return ChunkCost(label, plan.counts(), total)


SAVING_STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("naive", ()),
    ("+ features once", ("features_once",)),
    ("+ tables", ("tables",)),
    ("+ skip action tail", ("skip_action_tail",)),
    ("+ reuse frozen action", ("reuse_frozen_action",)),
    ("+ skip last vision", ("skip_last_vision", "drop_after_last_move")),
)
"""Columns of the cost table; each adds to the one before."""


def cost_table(config: DustConfig, *, feature_rows: int, settings: SamplerSettings) -> tuple[ChunkCost, ...]:
    """Count one chunk, actions only, for each combination of savings from none to all.

    Args:
        config: sizes and readings.
        feature_rows: S, rows of the features.
        settings: of the sampler; `future` is taken as False.
    """
    settings = replace(settings, future=False)
    savings, rows = NO_SAVINGS, []
    for label, names in SAVING_STEPS:
        savings = replace(savings, **dict.fromkeys(names, True))
        rows.append(
            chunk_cost(config, feature_rows=feature_rows, settings=settings, savings=savings, label=label)
        )
    return tuple(rows)


@torch.no_grad()
def backbone_flops(config: DustConfig, *, prompt_tokens: int) -> int:
    """Count Eagle-2 for one context: `views` images and a prompt of S tokens, image tokens included."""
    eagle = config.eagle
    with META:
        backbone = EagleBackbone(eagle, feature_width=config.width).eval().requires_grad_(False)
    pixels = torch.empty(config.views, 3, eagle.image_size, eagle.image_size, device=META)
    embedded = torch.empty(1, prompt_tokens, eagle.language_width, device=META)
    # A finished mask: the library would look at values to make one, and there are none here.
    mask = torch.empty(1, 1, prompt_tokens, prompt_tokens, dtype=torch.bool, device=META)

    def run() -> None:
        backbone.mlp1(torch.empty(config.views, eagle.image_tokens, 4 * eagle.vision_width, device=META))
        backbone.see(pixels)
        state = backbone.language(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        backbone.linear(state)

    return _count(run)
