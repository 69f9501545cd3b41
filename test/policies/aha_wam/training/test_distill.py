# SPDX-License-Identifier: Apache-2.0
"""Distillation: anchors, what learns, and what the student has to hit."""

from __future__ import annotations

import pytest
import torch

from wam.policies.aha_wam.training.distill import (
    ANCHORS,
    STARTS,
    TEACHER_STEPS,
    AnchorBias,
    DistillObjective,
    anchor_weights,
    chunk_inputs,
    draw_distill,
    make_teacher,
    rollout,
    student_endpoint,
    teacher_path,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_noisy_anchors_weigh_by_the_steps_that_are_left() -> None:
    assert anchor_weights(AnchorBias.UNIFORM) == pytest.approx([1 / 6] * 6)
    assert anchor_weights(AnchorBias.NOISY) == pytest.approx([w / 69 for w in (16, 15, 14, 12, 8, 4)])


@pytest.mark.parametrize("bias", list(AnchorBias))
def test_anchors_are_drawn_by_their_weights_and_never_the_last(
    make_model, make_batch, bias: AnchorBias
) -> None:
    batch = make_batch(make_model().config)
    drawn = torch.cat([draw_distill(batch, generator(i), bias=bias).anchor.flatten() for i in range(500)])
    counts = torch.bincount(drawn, minlength=len(STARTS)).float() / len(drawn)
    assert counts.tolist() == pytest.approx(anchor_weights(bias), abs=0.03)
    assert ANCHORS[: len(STARTS)] == STARTS


def test_a_shared_anchor_is_the_same_for_all_chunks_of_a_sample(make_model, make_batch) -> None:
    batch = make_batch(make_model().config)
    anchor = draw_distill(batch, generator(3), per_chunk=False).anchor
    assert anchor.shape == (batch.size, batch.chunks)
    assert (anchor == anchor[:, :1]).all()


def test_only_the_action_expert_and_the_branch_embedding_learn(make_model, make_batch) -> None:
    model = make_model()
    batch = make_batch(model.config)
    objective = DistillObjective(model)
    objective(batch, draw_distill(batch, generator())).total.backward()
    with_gradient = {n for n, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {
        n for n, _ in model.named_parameters() if n.startswith(("action.", "branch_embedding"))
    }
    assert not any(p.requires_grad for p in objective.teacher.action.parameters())


def test_the_teacher_shares_what_is_frozen_and_keeps_its_own_action_expert(make_model) -> None:
    model = make_model()
    teacher = make_teacher(model)
    assert teacher.video is model.video
    assert teacher.editor is model.editor
    assert teacher.action is not model.action
    before = teacher.action.head.weight.clone()
    with torch.no_grad():
        model.action.head.weight.add_(1)
    assert torch.equal(teacher.action.head.weight, before)


def test_the_path_starts_at_the_noise_and_the_noise_is_not_written_to(make_model, make_batch) -> None:
    model = make_model()
    batch = make_batch(model.config)
    inputs = chunk_inputs(model, batch)
    noise = torch.randn(batch.actions_BHA.shape, generator=generator())
    kept = noise.clone()
    path = teacher_path(model, batch, inputs, noise)
    assert torch.equal(noise, kept)
    assert torch.equal(path[0], noise)
    assert tuple(path) == ANCHORS
    with torch.no_grad():
        assert torch.equal(path[TEACHER_STEPS], rollout(model, batch, inputs, noise, steps=16)[16])


def test_a_chunk_starts_at_its_own_anchor(make_model, make_batch) -> None:
    model = make_model()
    batch = make_batch(model.config)
    inputs = chunk_inputs(model, batch)
    path = teacher_path(model, batch, inputs, torch.randn(batch.actions_BHA.shape, generator=generator()))
    first = torch.zeros(batch.size, batch.chunks, dtype=torch.int64)
    last = first.clone()
    last[:, 1] = len(STARTS) - 1
    with torch.no_grad():
        one, _ = student_endpoint(model, batch, inputs, path, first)
        two, _ = student_endpoint(model, batch, inputs, path, last)
    changed = (one != two).any(-1).any(0).unflatten(0, (batch.chunks, -1)).any(1)
    assert changed.tolist() == [False, True, False, False]


def test_a_student_whose_velocity_points_at_the_end_has_no_loss(make_model, make_batch) -> None:
    """The endpoint is x - sigma v, so the right velocity is (x - end) / sigma at every anchor."""
    model = make_model()
    batch = make_batch(model.config)
    inputs = chunk_inputs(model, batch)
    noise = torch.randn(batch.actions_BHA.shape, generator=generator())
    path = {step: noise for step in ANCHORS}
    anchor = torch.zeros(batch.size, batch.chunks, dtype=torch.int64)
    with torch.no_grad():
        velocity, x0 = student_endpoint(model, batch, inputs, path, anchor)
    torch.testing.assert_close(x0, noise - velocity)
