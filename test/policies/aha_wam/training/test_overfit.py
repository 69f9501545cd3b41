# SPDX-License-Identifier: Apache-2.0
"""A tiny network learns one batch by heart, and its student reaches the teacher in two steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import torch

from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.training.batch import LatentBatch
from wam.policies.aha_wam.training.config import AhaWamOptimSection
from wam.policies.aha_wam.training.distill import DistillObjective, chunk_inputs, draw_distill, rollout
from wam.policies.aha_wam.training.forward import JointObjective, draw
from wam.training.loop import batch_generator, learning_rate, make_optimiser, set_learning_rate

STEPS = 200
DISTILL_STEPS = 100
PEAK = 1e-2
DISTILL_PEAK = 2e-3


def numbers(seed: int, number: int) -> torch.Generator:
    return batch_generator(seed=seed, stream=0, number=number, device=torch.device("cpu"))


def optimise(
    objective: torch.nn.Module, batch: LatentBatch, draw_one: Callable[[int], Any], *, steps: int, peak: float
) -> list[dict[str, float]]:
    """The steps of the training loop, on one batch."""
    options = AhaWamOptimSection(learning_rate=peak)
    optimiser = make_optimiser(objective, options)
    curve = []
    for step in range(steps):
        set_learning_rate(optimiser, learning_rate(step, total=steps, options=options))
        losses = objective(batch, draw_one(step))
        optimiser.zero_grad()
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), options.clip_norm)
        optimiser.step()
        curve.append({name: float(value.detach()) for name, value in losses._asdict().items()})
    return curve


def test_the_loss_of_one_batch_falls_below_a_twentieth_of_its_start(make_model, make_batch) -> None:
    """One batch with its noise: planner and executor learn it together."""
    torch.set_num_threads(1)
    model = make_model()
    batch = make_batch(model.config)
    drawn = draw(batch, numbers(0, 0))
    curve = optimise(JointObjective(model), batch, lambda step: drawn, steps=60, peak=PEAK)
    for name in ("total", "video", "action"):
        assert curve[-1][name] < 0.05 * curve[0][name], name


@pytest.fixture(scope="module")
def learnt(make_model, make_batch) -> tuple[AhaWam, LatentBatch, float, float]:
    """A network that learnt the actions of one sample under fresh noise; its action loss before and after."""
    torch.set_num_threads(1)
    model: AhaWam = make_model()
    one = make_batch(model.config)
    batch = LatentBatch(**{field.name: getattr(one, field.name)[:1] for field in fields(one)})
    objective = JointObjective(model, video_weight=0.0)

    def action_loss() -> float:
        with torch.no_grad():
            losses = [float(objective(batch, draw(batch, numbers(9, i))).action) for i in range(8)]
        return sum(losses) / len(losses)

    before = action_loss()
    optimise(objective, batch, lambda step: draw(batch, numbers(1, step)), steps=STEPS, peak=PEAK)
    return model, batch, before, action_loss()


def test_actions_are_learnt_under_fresh_noise_within_three_hundred_steps(learnt) -> None:
    model, batch, before, after = learnt
    assert after < 0.05 * before
    with torch.no_grad():
        noise = torch.randn(batch.actions_BHA.shape, generator=numbers(2, 0))
        sampled = rollout(model, batch, chunk_inputs(model, batch), noise, steps=10)[10]
    assert float((sampled - batch.actions_BHA).square().mean().sqrt()) < 0.15


def test_the_distilled_two_step_chunk_is_the_sixteen_step_teachers(learnt) -> None:
    model, batch, _, _ = learnt
    objective = DistillObjective(model)
    inputs = chunk_inputs(objective.teacher, batch)

    def distance(steps: int) -> float:
        """Root mean square over chunks from four noises, normalised units."""
        total = 0.0
        for i in range(4):
            noise = torch.randn(batch.actions_BHA.shape, generator=numbers(3, i))
            with torch.no_grad():
                goal = rollout(objective.teacher, batch, inputs, noise, steps=16)[16]
                have = rollout(objective.model, batch, inputs, noise, steps=steps)[steps]
            total += float((have - goal).square().mean())
        return (total / 4) ** 0.5

    before = {steps: distance(steps) for steps in (1, 2)}
    optimise(
        objective,
        batch,
        lambda step: draw_distill(batch, numbers(4, step)),
        steps=DISTILL_STEPS,
        peak=DISTILL_PEAK,
    )
    assert distance(2) < 0.1
    assert distance(2) < 0.7 * before[2]
    assert distance(1) < 0.5 * before[1]
