# SPDX-License-Identifier: Apache-2.0
"""Sampling for any weights: rules, number of evaluations, exact savings, fields with a known solution."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from wam.policies.dust.head import DustHead
from wam.policies.dust.readings import BlockStyle, Conditioning, HeadStream
from wam.policies.dust.records import StreamVelocities
from wam.policies.dust.sampling import integrate_joint, noise, sample
from wam.policies.dust.schedule import (
    ALL_SAVINGS,
    NO_SAVINGS,
    ActionRule,
    ActionTime,
    SamplerSettings,
    Savings,
    schedule,
)

READINGS = {
    "sd3-alternate": {},
    "n1-alternate": {"style": BlockStyle.N1},
    "sd3-every": {"conditioning": Conditioning.EVERY},
    "n1-every": {"style": BlockStyle.N1, "conditioning": Conditioning.EVERY},
}
READING = pytest.mark.parametrize("reading", READINGS)
SAMPLERS = [
    SamplerSettings(q=q, rule=rule, action_time=time)
    for q, rule, time in itertools.product((1, 3), ActionRule, ActionTime)
]


def close(have: Tensor, want: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(have, want, atol=atol, rtol=0)


@READING
@torch.no_grad()
def test_with_one_evaluation_per_move_all_rules_are_the_synchronous_euler_loop(case_of, reading: str) -> None:
    case = case_of(**READINGS[reading])
    action, future = noise(case.config, batch=3, generator=torch.Generator().manual_seed(0))
    for n in range(4):
        bucket = torch.tensor([1000 * n // 4])
        v = case.velocities(action_BNA=action, future_BPO=future, bucket_a=bucket, bucket_o=bucket)
        action, future = action + v.action / 4, future + v.vision / 4
    for rule, time in itertools.product(ActionRule, ActionTime):
        result = case.sampled(SamplerSettings(q=1, rule=rule, action_time=time), savings=ALL_SAVINGS)
        assert torch.equal(result.action, action)
        assert torch.equal(result.future, future)


@pytest.mark.parametrize("settings", SAMPLERS, ids=str)
@pytest.mark.parametrize("action_steps", [1, 4, 5])
def test_a_chunk_takes_q_times_the_moves_and_ends_both_modalities_at_one(
    settings: SamplerSettings, action_steps: int
) -> None:
    plan = schedule(replace(settings, action_steps=action_steps))
    assert len(plan.evaluations) == settings.q * action_steps
    assert sum(e.moves for e in plan.evaluations) == action_steps
    assert plan.future_tau == 1
    assert max(e.bucket_o for e in plan.evaluations) < 1000
    moves = [e.index % settings.q for e in plan.evaluations if e.moves]
    assert set(moves) == {settings.q - 1 if settings.rule is ActionRule.END else 0}


@READING
@pytest.mark.parametrize("settings", SAMPLERS, ids=str)
@torch.no_grad()
def test_every_saving_leaves_actions_and_prediction_bit_for_bit_the_same(
    case_of, reading: str, settings
) -> None:
    case = case_of(**READINGS[reading])
    naive = case.sampled(settings, savings=NO_SAVINGS)
    each = [replace(NO_SAVINGS, **{f.name: True}) for f in fields(Savings)]
    for savings in (*each, ALL_SAVINGS):
        with_future = case.sampled(settings, savings=savings)
        actions_only = case.sampled(replace(settings, future=False), savings=savings)
        assert torch.equal(with_future.action, naive.action)
        assert torch.equal(with_future.future, naive.future)
        assert torch.equal(actions_only.action, naive.action)


@torch.no_grad()
def test_under_the_own_clock_block_zero_of_a_standing_action_is_not_run_again(case_of, monkeypatch) -> None:
    case = case_of()
    runs = []
    original = DustHead.prefix

    def counted(self, stream, *args, **kwargs):
        runs.append(stream)
        return original(self, stream, *args, **kwargs)

    monkeypatch.setattr(DustHead, "prefix", counted)
    for time, want in ((ActionTime.OWN, 4), (ActionTime.CLOCK, 12)):
        runs.clear()
        case.sampled(SamplerSettings(q=3, action_time=time), savings=ALL_SAVINGS)
        assert runs.count(HeadStream.ACTION) == want
        assert runs.count(HeadStream.VISION) == 12


def constant_field(action: Tensor, future: Tensor):
    return lambda _a, _o, _e: StreamVelocities(action, future)


@pytest.mark.parametrize("rule", ActionRule)
@pytest.mark.parametrize(("action_steps", "q"), [(1, 1), (4, 1), (4, 4), (4, 16), (7, 3)])
def test_an_oracle_velocity_is_integrated_exactly(rule: ActionRule, action_steps: int, q: int) -> None:
    generator = torch.Generator().manual_seed(0)
    a0, a1 = torch.randn(2, 2, 16, 8, generator=generator)
    o0, o1 = torch.randn(2, 2, 4, 6, generator=generator)
    plan = schedule(SamplerSettings(action_steps=action_steps, q=q, rule=rule))
    result = integrate_joint(constant_field(a1 - a0, o1 - o0), a0, o0, plan=plan)
    close(result.action, a1, 4e-6)
    close(result.future, o1, 4e-6)


@pytest.mark.parametrize("rule", ActionRule)
def test_the_sampler_converges_with_first_order_in_the_number_of_steps(rule: ActionRule) -> None:
    """dA/dtau = o, do/dtau = -A turns by one radian; the error halves with the step."""
    a0, o0 = torch.tensor([[[1.0]]]), torch.tensor([[[0.0]]])
    errors = []
    for steps in (8, 16, 32, 64):
        plan = schedule(SamplerSettings(action_steps=steps, q=2, rule=rule))
        result = integrate_joint(lambda a, o, _e: StreamVelocities(o, -a), a0, o0, plan=plan)
        errors.append(float((result.action - torch.cos(torch.tensor(1.0))).abs()))
    ratios = [a / b for a, b in itertools.pairwise(errors)]
    assert all(1.7 < r < 2.4 for r in ratios), ratios


def test_the_state_stays_float32_where_the_network_computes_in_bfloat16() -> None:
    """GR00T-N1 keeps its state in bfloat16: from 1 with v = 0.2 and 64 steps it never moves (exact: 1.2)."""
    plan = schedule(SamplerSettings(action_steps=64))
    v = torch.full((1, 1, 1), 0.2, dtype=torch.bfloat16)
    start = torch.ones(1, 1, 1, dtype=torch.bfloat16)
    rounded = start
    for _ in range(64):
        rounded = rounded + v / 64
    assert rounded.item() == 1.0
    result = integrate_joint(constant_field(v, v), start, start, plan=plan)
    assert result.action.dtype == torch.float32
    close(result.action, torch.full((1, 1, 1), 1.2), 1e-3)


@torch.no_grad()
def test_sampling_never_writes_to_the_start_noise(case_of) -> None:
    case = case_of()
    action, future = noise(case.config, batch=3, generator=torch.Generator().manual_seed(0))
    kept = action.clone(), future.clone()
    sample(
        case.head,
        features=case.kv(),
        state_BTJ=case.state,
        slot=case.slot,
        action_BNA=action,
        future_BPO=future,
        plan=schedule(SamplerSettings(q=2)),
    )
    assert torch.equal(action, kept[0])
    assert torch.equal(future, kept[1])


@torch.no_grad()
def test_under_start_nothing_after_the_last_move_changes_the_actions(case_of) -> None:
    case = case_of()
    settings = SamplerSettings(q=4, rule=ActionRule.START)
    paths: list[Tensor] = []
    full = case.sampled(settings, savings=ALL_SAVINGS, trace=lambda _e, a, _o: paths.append(a))
    assert all(torch.equal(a, full.action) for a in paths[12:])
    short = schedule(replace(settings, future=False))
    assert len(short.evaluations) == 13
    assert short.future_tau < 1
    assert torch.equal(case.sampled(replace(settings, future=False), savings=ALL_SAVINGS).action, full.action)
    assert len(schedule(replace(settings, q=16, future=False)).evaluations) == 49


@torch.no_grad()
def test_the_two_rules_are_different_samplers(case_of) -> None:
    case = case_of()
    end, start = (
        case.sampled(SamplerSettings(q=4, rule=rule), savings=ALL_SAVINGS).action for rule in ActionRule
    )
    one = case.sampled(SamplerSettings(), savings=ALL_SAVINGS).action
    assert (end - start).abs().max() > 1e-4
    assert (start - one).abs().max() < (end - one).abs().max()
