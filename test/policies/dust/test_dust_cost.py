# SPDX-License-Identifier: Apache-2.0
"""Counted operations of a chunk: against a formula, against the table of the paper's sizes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from wam.bench import dust as bench
from wam.policies.dust.config import gr00t_n1, paper, tiny
from wam.policies.dust.cost import SAVING_STEPS, backbone_flops, chunk_cost, cost_table
from wam.policies.dust.schedule import ALL_SAVINGS, NO_SAVINGS, ActionRule, SamplerSettings

# Head GFLOP per chunk with N_A = 4: naive, features once, tables, skipped action tail, frozen action, last vision.
TABLE = {
    (240, 16): (6860, 4577, 4528, 4308, 4230, 4216),
    (102, 4): (1373, 1142, 1130, 1086, 1070, 1057),
}


@pytest.mark.parametrize(("rows", "q"), TABLE)
def test_the_papers_chunk_costs_what_the_table_says(rows: int, q: int) -> None:
    have = cost_table(paper(), feature_rows=rows, settings=SamplerSettings(q=q))
    assert [c.label for c in have] == [label for label, _ in SAVING_STEPS]
    for cost, want in zip(have, TABLE[rows, q], strict=True):
        assert abs(cost.flops / 1e9 / want - 1) < 0.02, (cost, want)


@pytest.mark.parametrize(("q", "evaluations", "want"), [(4, 13, 904), (16, 49, 3250)])
def test_under_start_the_evaluations_after_the_last_move_are_dropped(
    q: int, evaluations: int, want: float
) -> None:
    settings = SamplerSettings(q=q, rule=ActionRule.START, future=False)
    cost = chunk_cost(paper(), feature_rows=240, settings=settings, savings=ALL_SAVINGS)
    assert cost.evaluations["total"] == evaluations
    assert abs(cost.flops / 1e9 / want - 1) < 0.02


def test_one_evaluation_is_the_sum_of_its_parts() -> None:
    """Per half-block with n tokens: FFN 16 n D^2, q k v o 8 n D^2 (cross 4), scores and values 4 n L D."""
    config = replace(tiny(), mm_layers=2, tail_layers=2)
    D, S, n_a, n_o = config.width, 11, config.action_rows + 1, config.vision_tokens
    tokens = n_a + n_o
    cross = sum(20 * n * D**2 + 4 * n * S * D for n in (n_a, n_o))
    joint = 24 * tokens * D**2 + 4 * tokens**2 * D
    own = sum(24 * n * D**2 + 4 * n**2 * D for n in (n_a, n_o))
    projections = 4 * len(config.cross_layers()) * S * D**2
    ends_a = 2 * (
        config.state_dim * config.hidden
        + config.hidden * D
        + config.action_rows * (config.action_dim * D + 2 * D * D)
        + n_a * D * config.hidden
        + config.action_rows * (config.hidden**2 + config.hidden * config.action_dim)
    )
    ends_o = (
        2
        * n_o
        * (
            config.vision_dim * D
            + 2 * D * D
            + D * config.hidden
            + config.hidden**2
            + config.hidden * config.vision_dim
        )
    )
    have = chunk_cost(
        config, feature_rows=S, settings=SamplerSettings(action_steps=1), savings=replace(ALL_SAVINGS)
    )
    assert have.flops == 2 * cross + joint + own + projections + ends_a + ends_o


def test_a_head_without_a_world_model_is_counted_too() -> None:
    """The published transformer of GR00T-N1 costs 32.6 GFLOP at S = 240."""
    cost = chunk_cost(
        gr00t_n1(), feature_rows=240, settings=SamplerSettings(action_steps=1), savings=NO_SAVINGS
    )
    assert 32.6 < cost.flops / 1e9 < 33.6


def test_the_backbone_costs_what_the_table_says() -> None:
    assert abs(backbone_flops(paper(), prompt_tokens=102) / 1e9 / (219 + 165) - 1) < 0.02
    assert (
        abs(backbone_flops(replace(paper(), views=3), prompt_tokens=240) / 1e9 / (3 * 219 + 392) - 1) < 0.02
    )


def test_the_bench_reports_naive_and_cached_for_every_q(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rows = [f.to_dict() for f in bench.bench_chunk("dust/random", qs=(1, 4), repeats=1)]
    assert json.loads(json.dumps(rows)) == rows
    assert [(r["q"], r["variant"]) for r in rows] == [
        (1, "naive"),
        (1, "cached"),
        (4, "naive"),
        (4, "cached"),
    ]
    assert [r["evaluations"]["total"] for r in rows] == [4, 4, 16, 16]
    assert rows[3]["evaluations"] == {"joint": 3, "vision": 12, "action": 1, "total": 16}
    assert rows[3]["gflops"] < rows[2]["gflops"]
    assert all(r["p50_ms"] >= r["min_ms"] > 0 for r in rows)
