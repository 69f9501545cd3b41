# SPDX-License-Identifier: Apache-2.0
"""The objective for any weights: gradients that must vanish, additivity, noise levels, ablations, target."""

from __future__ import annotations

import copy
from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from wam.policies.dust.config import DustConfig, paper, single_stream
from wam.policies.dust.eagle import pixel_shuffle, pool_target
from wam.policies.dust.head import DustHead
from wam.policies.dust.readings import BlockStyle, Conditioning, HeadStream
from wam.policies.dust.training.losses import (
    ActionFreeTime,
    DustBatch,
    DustDraws,
    DustObjective,
    TimeLaw,
    draw,
    draw_tau,
    losses,
)

READINGS = {
    "sd3-alternate": {},
    "n1-alternate": {"style": BlockStyle.N1},
    "sd3-every": {"conditioning": Conditioning.EVERY},
    "n1-every": {"style": BlockStyle.N1, "conditioning": Conditioning.EVERY},
}
READING = pytest.mark.parametrize("reading", READINGS)


def close(have: Tensor, want: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(have, want, atol=atol, rtol=0)


def batch_of(case) -> DustBatch:
    mask = torch.ones_like(case.action)
    mask[..., 3:] = 0
    return DustBatch(case.state, case.action, mask, case.future, case.slot)


def gradients(case, objective: DustObjective, *, batch: DustBatch | None = None) -> dict[str, Tensor]:
    head = copy.deepcopy(case.head)
    batch = batch or batch_of(case)
    draws = draw(batch, objective, torch.Generator().manual_seed(1))
    losses(head, case.features, case.mask, batch, draws, objective).joint.backward()
    return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in head.named_parameters()}


def untouched(grads: dict[str, Tensor]) -> set[str]:
    return {name for name, grad in grads.items() if not grad.any()}


def half_of_last_joint_block(config: DustConfig, stream: str) -> set[str]:
    """What of a stream's half nobody reads when the stream's own velocity does not count."""
    last = max(i for i in range(config.mm_layers) if config.is_joint(i))
    parts = ["to_q", "to_out", "ff1", "ff2"]
    if config.conditioning is Conditioning.EVERY:
        parts += ["x_q", "x_k", "x_v", "x_out"]
    names = {f"mm.{last}.{stream}.{part}.{leaf}" for part in parts for leaf in ("weight", "bias")}
    later = range(last + 1, config.mm_layers)
    return names | {f"mm.{i}.{stream}." for i in later}


def expected_untouched(case, stream: str) -> set[str]:
    decoder = "vision_decoder." if stream == "o" else "action_decoder."
    exact = half_of_last_joint_block(case.config, stream)
    prefixes = (decoder, f"tail.{stream}.", f"out.{stream}.", *(n for n in exact if n.endswith(".")))
    names = {n for n, _ in case.head.named_parameters()}
    return {n for n in names if n in exact or n.startswith(prefixes)}


@READING
@pytest.mark.parametrize("mm_layers", [4, 3], ids=["ends on a joint block", "ends on a cross block"])
def test_without_actions_exactly_the_actions_own_end_of_the_network_gets_no_gradient(
    case_of, reading: str, mm_layers: int
) -> None:
    case = case_of(**READINGS[reading], mm_layers=mm_layers)
    got = untouched(gradients(case, DustObjective(action_free=True)))
    want = expected_untouched(case, "a")
    assert got == want
    assert {"state_encoder.layer1.W", "action_encoder.W1.W"}.isdisjoint(got)


@READING
def test_the_action_loss_alone_leaves_exactly_the_visions_own_end_alone(case_of, reading: str) -> None:
    case = case_of(**READINGS[reading])
    assert untouched(gradients(case, DustObjective(world_weight=0.0))) == expected_untouched(case, "o")


def test_a_video_without_a_robot_still_trains_the_bias_of_the_state_encoder(case_of) -> None:
    case = case_of()
    batch = replace(batch_of(case), state=torch.zeros_like(case.state))
    grads = gradients(case, DustObjective(action_free=True), batch=batch)
    assert not grads["state_encoder.layer1.W"].any()
    assert grads["state_encoder.layer1.b"].any()


def test_videos_train_the_slot_that_is_fine_tuned_and_no_other(case_of) -> None:
    case = case_of()
    batch = replace(batch_of(case), slot=torch.tensor([1, 1, 1]))
    grads = gradients(case, DustObjective(action_free=True), batch=batch)
    for name in ("state_encoder.layer2.W", "action_encoder.W2.W", "action_encoder.W3.b"):
        assert [bool(g.any()) for g in grads[name]] == [False, True, False]


def test_the_loss_is_the_sum_of_its_parts_and_its_gradient_is_linear_in_lambda(case_of) -> None:
    case = case_of()
    batch = batch_of(case)
    draws = draw(batch, DustObjective(), torch.Generator().manual_seed(1))
    for weight in (0.0, 0.2, 2.0):
        loss = losses(case.head, case.features, case.mask, batch, draws, DustObjective(world_weight=weight))
        close(loss.joint, loss.action + weight * loss.world, 1e-6)
    zero, one, two = (gradients(case, DustObjective(world_weight=w)) for w in (0.0, 1.0, 2.0))
    for name, grad in one.items():
        close(2 * grad, zero[name] + two[name], 1e-4)


@torch.no_grad()
def test_a_weight_of_zero_is_not_the_head_without_a_world_model(case_of) -> None:
    """Joint attention still mixes the vision tokens in, so lambda = 0 is not GR00T-N1."""
    case = case_of()
    batch = batch_of(case)
    draws = draw(batch, DustObjective(), torch.Generator().manual_seed(1))
    other = draws._replace(eps_o=draws.eps_o + 1)
    objective = DustObjective(world_weight=0.0)
    first = losses(case.head, case.features, case.mask, batch, draws, objective)
    second = losses(case.head, case.features, case.mask, batch, other, objective)
    assert (first.action - second.action).abs() > 1e-4


def test_the_action_loss_counts_real_columns_and_every_row_of_a_full_mask(case_of) -> None:
    case = case_of()
    batch = batch_of(case)
    draws = draw(batch, DustObjective(), torch.Generator().manual_seed(1))
    far = replace(batch, action=batch.action + 1e6 * (1 - batch.action_mask))
    # The padded columns reach the network as input too, so only the comparison itself is looked at.
    v = case.velocities(
        action_BNA=draws.tau_a[:, None, None] * batch.action + (1 - draws.tau_a[:, None, None]) * draws.eps_a,
        future_BPO=draws.tau_o[:, None, None] * batch.target + (1 - draws.tau_o[:, None, None]) * draws.eps_o,
        bucket_a=(1000 * draws.tau_a).long().clamp(0, 999),
        bucket_o=(1000 * draws.tau_o).long().clamp(0, 999),
    )
    error = (v.action - (batch.action - draws.eps_a)) ** 2
    have = losses(case.head, case.features, case.mask, batch, draws)
    close(have.action, error[..., :3].mean())
    full = replace(batch, action_mask=torch.ones_like(batch.action_mask))
    close(losses(case.head, case.features, case.mask, full, draws).action, error.mean())
    assert losses(case.head, case.features, case.mask, far, draws).action.isfinite()


def test_a_future_beyond_the_episode_can_be_left_out_of_the_world_loss(case_of) -> None:
    case = case_of()
    batch = batch_of(case)
    draws = draw(batch, DustObjective(), torch.Generator().manual_seed(1))
    valid = torch.tensor([True, False, True])
    masked = losses(case.head, case.features, case.mask, replace(batch, target_valid=valid), draws)
    rows = [
        losses(
            case.head,
            case.features[i : i + 1],
            case.mask[i : i + 1],
            DustBatch(*(getattr(batch, f.name)[i : i + 1] for f in fields(DustBatch)[:5])),
            DustDraws(*(d[i : i + 1] for d in draws)),
        ).world
        for i in range(3)
    ]
    close(masked.world, (rows[0] + rows[2]) / 2)


def test_noise_levels_are_drawn_per_sample_and_independently() -> None:
    batch = DustBatch(
        torch.zeros(20_000, 1, 1),
        torch.zeros(20_000, 1, 1),
        torch.ones(20_000, 1, 1),
        torch.zeros(20_000, 1, 1),
        0,
    )
    draws = draw(batch, DustObjective(), torch.Generator().manual_seed(0))
    for tau in (draws.tau_a, draws.tau_o):
        assert 0 <= tau.min() < 0.001
        assert 0.98 < tau.max() <= 1
        assert abs(tau.mean() - 0.399) < 0.01
        assert len(tau.unique()) > 19_000
    assert abs(torch.corrcoef(torch.stack((draws.tau_a, draws.tau_o)))[0, 1]) < 0.03


@pytest.mark.parametrize(
    ("law", "mean"), [(TimeLaw.N1, 0.399), (TimeLaw.PI0, 0.3996), (TimeLaw.UNIFORM, 0.5)]
)
def test_every_law_has_its_mean_and_stays_in_range(law: TimeLaw, mean: float) -> None:
    tau = draw_tau(50_000, law, torch.Generator().manual_seed(0))
    assert abs(tau.mean() - mean) < 0.006
    assert tau.min() >= 0
    assert tau.max() <= 1


def test_the_joint_noise_ablation_gives_both_modalities_one_level() -> None:
    batch = DustBatch(
        torch.zeros(9, 1, 1), torch.zeros(9, 1, 1), torch.ones(9, 1, 1), torch.zeros(9, 1, 1), 0
    )
    draws = draw(batch, DustObjective(joint_noise=True), torch.Generator().manual_seed(0))
    assert torch.equal(draws.tau_a, draws.tau_o)


def test_the_single_stream_ablation_is_one_set_of_gr00t_n1_blocks() -> None:
    with torch.device("meta"):
        head = DustHead(single_stream(paper()))
    counted = (head.mm, head.tail, head.out, head.time_a)
    assert sum(p.numel() for part in counted for p in part.parameters()) == 537_803_776
    assert head.time_o is None


@torch.no_grad()
def test_the_single_stream_ablation_attends_over_all_tokens_with_the_same_weights(case_of, small) -> None:
    single = single_stream(small)
    case = case_of(**{f.name: getattr(single, f.name) for f in fields(DustConfig)})
    head, kv = case.head, case.kv()
    seen: dict[str, Tensor] = {}
    case.velocities(bucket_a=torch.tensor([400]), bucket_o=torch.tensor([400]), probe=seen.__setitem__)
    x = torch.cat((seen["embed.a"], seen["embed.o"]), dim=1)
    mod = head.action_modulation(torch.tensor([400]), case.slot)
    for i in range(single.mm_layers):
        block = head.trunk_block(i, HeadStream.ACTION)
        if i % 2:
            x = block.self_attention(x, mod.blocks[i])
        else:
            x = block.cross(x, mod.blocks[i], kv.k[i // 2], kv.v[i // 2], kv.mask[:, None, None])
        close(torch.cat((seen[f"mm{i}.a"], seen[f"mm{i}.o"]), dim=1), x)


def test_pooling_is_an_average_pool_and_keeps_channel_scales() -> None:
    patches = torch.randn(3, 36, 5)
    grid = patches.transpose(1, 2).unflatten(2, (6, 6))
    close(pool_target(patches), F.avg_pool2d(grid, 2).flatten(2).transpose(1, 2), 1e-6)
    scale, shift = torch.rand(5) + 0.5, torch.randn(5)
    close(pool_target(patches * scale + shift), pool_target(patches) * scale + shift)


def test_target_token_j_covers_the_image_cell_of_language_token_j() -> None:
    patches = torch.zeros(1, 36, 1)
    patches[0, 2 * 6 + 5] = 1.0
    shuffled, pooled = pixel_shuffle(patches), pool_target(patches)
    assert shuffled.abs().sum(-1).nonzero().tolist() == pooled.abs().sum(-1).nonzero().tolist() == [[0, 5]]
    assert shuffled[0, 5].tolist() == [0.0, 1.0, 0.0, 0.0]


@torch.no_grad()
def test_missing_actions_are_pure_noise_whatever_level_the_network_is_told(case_of) -> None:
    case = case_of()
    batch = batch_of(case)
    levels, inputs = {}, {}
    for time in ActionFreeTime:
        objective = DustObjective(action_free=True, action_free_time=time)
        draws = draw(batch, objective, torch.Generator().manual_seed(1))
        levels[time] = draws.tau_a
        seen: dict[str, Tensor] = {}
        far = replace(batch, action=batch.action + 100)
        for one in (batch, far):
            losses(case.head, case.features, case.mask, one, draws, objective, probe=seen.__setitem__)
            assert torch.equal(inputs.setdefault(time, seen["embed.a"]), seen["embed.a"])
    assert not levels[ActionFreeTime.ZERO].any()
    assert levels[ActionFreeTime.RANDOM].all()


def test_an_objective_that_cannot_learn_is_refused() -> None:
    with pytest.raises(ValueError, match="world_weight=-1"):
        DustObjective(world_weight=-1)
    with pytest.raises(ValueError, match="nothing to learn"):
        DustObjective(action_free=True, world_weight=0)
