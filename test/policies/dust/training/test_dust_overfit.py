# SPDX-License-Identifier: Apache-2.0
"""A tiny DUST learns one batch by heart; videos first make the joint stage start lower."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from wam.policies.dust.config import DustConfig, single_stream, tiny
from wam.policies.dust.head import DustHead
from wam.policies.dust.initialise import zero_gates
from wam.policies.dust.training.config import DustOptimSection
from wam.policies.dust.training.flare import Alignment, baseline
from wam.policies.dust.training.losses import DustBatch, DustDraws, DustLosses, DustObjective, draw, losses
from wam.policies.dust.training.objective import decays
from wam.training.loop import learning_rate, make_optimiser, set_learning_rate

STEPS = 300
PEAK = 3e-3
CONFIG = replace(tiny(), tail_dropout=0.0)


def make_head(config: DustConfig = CONFIG) -> DustHead:
    torch.manual_seed(0)
    head = DustHead(config).train()
    zero_gates(head)
    return head


def make_batch(config: DustConfig = CONFIG) -> tuple[Tensor, DustBatch]:
    g = torch.Generator().manual_seed(1)
    t = torch.linspace(0, 1, config.action_rows)[None, :, None]
    phase = 6 * torch.rand(2, 2, 1, config.action_dim, generator=g)
    batch = DustBatch(
        state=torch.randn(2, 1, config.state_dim, generator=g),
        action=torch.sin(t * phase[0] + phase[1]),
        action_mask=torch.ones(2, config.action_rows, config.action_dim),
        target=torch.randn(2, config.vision_tokens, config.vision_dim, generator=g),
        slot=0,
    )
    return torch.randn(2, 20, config.width, generator=g), batch


def numbers(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(1000 * seed + step)


def optimise(
    module: torch.nn.Module, step_loss: Callable[[int], tuple[Tensor, ...]], *, steps: int
) -> list[tuple[float, ...]]:
    """The steps of the training loop, on one batch."""
    options = DustOptimSection(learning_rate=PEAK)
    optimiser = make_optimiser(module, options, decays=decays)
    curve = []
    for step in range(steps):
        set_learning_rate(optimiser, learning_rate(step, total=steps, options=options))
        found = step_loss(step)
        optimiser.zero_grad()
        found[0].backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), options.clip_norm)
        optimiser.step()
        curve.append(tuple(float(value.detach()) for value in found))
    return curve


def learn(head: DustHead, objective: DustObjective, draws: Callable[[int], DustDraws], *, steps: int = STEPS):
    features, batch = make_batch(head.config)

    def step_loss(step: int) -> DustLosses:
        return losses(head, features, None, batch, draws(step), objective)

    return optimise(head, step_loss, steps=steps)


@pytest.mark.parametrize("config", [CONFIG, single_stream(CONFIG)], ids=["dual", "single stream"])
def test_the_loss_of_one_batch_falls_below_a_twentieth_of_its_start_in_three_hundred_steps(config) -> None:
    """One batch with its noise: both modalities learn it together."""
    _, batch = make_batch(config)
    drawn = draw(batch, DustObjective(), numbers(0, 0))
    curve = learn(make_head(config), DustObjective(), lambda _step: drawn)
    for i, name in enumerate(DustLosses._fields):
        assert curve[-1][i] < 0.05 * curve[0][i], name


def test_after_videos_alone_the_joint_stage_starts_lower_than_from_scratch() -> None:
    _, batch = make_batch()
    videos, joint = DustObjective(action_free=True), DustObjective()
    pretrained = make_head()
    first = learn(pretrained, videos, lambda step: draw(batch, videos, numbers(1, step)), steps=150)
    assert first[-1][1] == 0, "the action loss does not exist in the first stage"
    after = learn(pretrained, joint, lambda step: draw(batch, joint, numbers(2, step)), steps=20)
    scratch = learn(make_head(), joint, lambda step: draw(batch, joint, numbers(2, step)), steps=20)
    assert after[0][0] < 0.9 * scratch[0][0]
    assert sum(row[0] for row in after) < sum(row[0] for row in scratch)


def test_the_alignment_baseline_learns_actions_and_pulls_its_layer_to_the_target() -> None:
    config = baseline(CONFIG, aligned=True)
    head, alignment = make_head(config), Alignment(config, layer=3)
    features, batch = make_batch(config)
    drawn = draw(replace(batch, target=None), DustObjective(), numbers(3, 0))
    both = torch.nn.ModuleList((head, alignment))
    curve = optimise(both, lambda _step: alignment(head, features, None, batch, drawn, weight=0.2), steps=150)
    assert curve[-1][1] < 0.2 * curve[0][1]
    assert curve[0][2] > 0.9
    assert curve[-1][2] < 0.1


def test_the_alignment_reaches_the_blocks_up_to_its_layer_and_no_further() -> None:
    config = baseline(CONFIG, aligned=True)
    head, alignment = make_head(config), Alignment(config, layer=3)
    features, batch = make_batch(config)
    drawn = draw(replace(batch, target=None), DustObjective(), numbers(3, 0))
    alignment(head, features, None, batch, drawn, weight=1.0).alignment.backward()
    reached = [any(p.grad is not None and p.grad.any() for p in b.parameters()) for b in head.tail["a"]]
    assert reached == [True, True, True, False, False, False]
    assert head.future_tokens.grad.any()
    assert head.action_decoder.layer2.W.grad is None


def test_the_baselines_learned_tokens_do_not_shift_the_action_rows() -> None:
    """The velocity is read from the rows of the actions, wherever the learned tokens stand."""
    config = baseline(CONFIG, aligned=True)
    head = make_head(config).eval()
    features, batch = make_batch(config)
    rows = []
    for bump in (0.0, 1.0):
        action = batch.action.clone()
        action[:, -1] += bump
        v = head(
            head.project_features(features),
            state_BTJ=batch.state,
            action_BNA=action,
            future_BPO=None,
            bucket_a=torch.tensor([500]),
            bucket_o=None,
            slot=0,
        )
        rows.append(v.action)
    moved = (rows[0] - rows[1]).abs().amax((0, 2))
    assert moved.shape == (config.action_rows,)
    assert int(moved.argmax()) == config.action_rows - 1


def test_an_alignment_layer_that_does_not_exist_is_refused() -> None:
    config = baseline(CONFIG, aligned=True)
    for layer in (0, 7):
        with pytest.raises(ValueError, match=f"alignment_layer={layer} must be in 1..6"):
            Alignment(config, layer=layer)
    with pytest.raises(ValueError, match="future_tokens=0"):
        Alignment(baseline(CONFIG, aligned=False), layer=1)


def test_weight_decay_spares_biases_of_linear_layers_and_nothing_else() -> None:
    """As GR00T-N1's trainer: per-robot biases and the position table decay."""
    head = make_head(baseline(CONFIG, aligned=False))
    optimiser = make_optimiser(head, DustOptimSection(weight_decay=0.5), decays=decays)
    decayed, spared = optimiser.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.5, 0.0)
    inside = {id(p) for p in decayed["params"]}
    names = {n for n, p in head.named_parameters() if id(p) in inside}
    assert {"pos_action", "state_encoder.layer1.b", "tail.a.0.to_q.weight"} <= names
    assert len(spared["params"]) == sum("bias" in n for n, _ in head.named_parameters())
    assert len(names) + len(spared["params"]) == len(list(head.parameters()))
