# SPDX-License-Identifier: Apache-2.0
"""The joint forward pass: who sees what, what counts in the loss, and what the ablation switches change."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from wam.models.layers.flow import interpolate, shift, sigma_grid
from wam.policies.aha_wam.config import AhaWamConfig, ExpertConfig, paper, tiny
from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.training.ablation import Ablation, ablate
from wam.policies.aha_wam.training.forward import (
    Draws,
    JointObjective,
    NoiseTimes,
    action_rope,
    action_velocity,
    chunk_contexts,
    chunk_text,
    current_context,
    draw,
    joint_velocities,
)
from wam.policies.aha_wam.training.layout import SampleLayout
from wam.policies.aha_wam.training.losses import action_loss, masked_mean, video_loss
from wam.policies.aha_wam.video_dit import frame_mask


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws_for(batch, seed: int = 0) -> Draws:
    return draw(batch, generator(seed))


def test_no_action_depends_on_a_future_frame(make_model, make_batch) -> None:
    model = make_model()
    batch = make_batch(model.config)
    drawn = draws_for(batch)
    other = batch.z_BCFHW.clone()
    other[:, :, 1:] += 1
    with torch.no_grad():
        before = joint_velocities(model, batch, drawn)
        after = joint_velocities(model, replace(batch, z_BCFHW=other), drawn)
    torch.testing.assert_close(after.action, before.action, rtol=0, atol=0)
    assert not torch.equal(after.video, before.video)


def test_the_video_never_sees_actions_or_joint_states(make_model, make_batch) -> None:
    model = make_model()
    batch = make_batch(model.config)
    other = replace(batch, actions_BHA=batch.actions_BHA + 1, states_BKJ=batch.states_BKJ + 1)
    with torch.no_grad():
        before = joint_velocities(model, batch, draws_for(batch)).video
        after = joint_velocities(model, other, draws_for(batch)).video
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_every_chunk_depends_on_its_own_image_and_state_and_on_no_other(make_model, make_batch) -> None:
    model = make_model()
    batch = make_batch(model.config)
    rows = model.config.chunk_rows
    drawn = draws_for(batch)
    with torch.no_grad():
        before = joint_velocities(model, batch, drawn).action
        for name in ("observations_BKCHW", "states_BKJ"):
            changed = getattr(batch, name).clone()
            changed[:, 2] *= -1
            after = joint_velocities(model, replace(batch, **{name: changed}), drawn).action
            moved = (after - before).abs().amax((0, 2)).unflatten(0, (-1, rows)).amax(1) > 1e-6
            assert moved.tolist() == [False, False, True, False]


def test_the_current_frame_alone_gives_the_context_of_the_whole_pass(make_model, make_batch) -> None:
    """A prefill at deployment sees one frame; training must not have shown that frame anything else."""
    model = make_model()
    batch = make_batch(model.config)
    drawn = draws_for(batch)
    alone = replace(batch, z_BCFHW=batch.z_BCFHW[:, :, :1], positions_BF=batch.positions_BF[:, :1])
    with torch.no_grad():
        torch.testing.assert_close(
            current_context(model, alone).k, current_context(model, batch).k, rtol=0, atol=0
        )
        routed = chunk_contexts(model, batch, current_context(model, batch))
        whole = joint_velocities(model, batch, drawn)
    assert routed.k.shape[1] == batch.size * batch.chunks
    assert torch.isfinite(whole.action).all()


def test_history_that_does_not_exist_changes_nothing(make_model, make_batch) -> None:
    """A batch may hold samples of different history; the padding of the shorter ones must not be seen."""
    model = make_model()
    batch = make_batch(model.config)
    mixed = replace(batch, history_valid_B=torch.tensor([2, 1]))
    garbage = mixed.history_BMCHW.clone()
    garbage[1, 0] = 1e3
    drawn = draws_for(batch)
    with torch.no_grad():
        before = joint_velocities(model, mixed, drawn)
        after = joint_velocities(model, replace(mixed, history_BMCHW=garbage), drawn)
    torch.testing.assert_close(after.action, before.action, rtol=0, atol=0)
    torch.testing.assert_close(after.video, before.video, rtol=0, atol=0)


def test_history_moves_actions_and_gets_no_gradient(make_model, make_batch) -> None:
    model = make_model()
    batch = make_batch(model.config)
    history = batch.history_BMCHW.clone().requires_grad_(True)
    out = joint_velocities(model, replace(batch, history_BMCHW=history), draws_for(batch))
    out.action.sum().backward()
    assert history.grad is None
    moved = joint_velocities(model, replace(batch, history_BMCHW=-batch.history_BMCHW), draws_for(batch))
    assert not torch.allclose(moved.action, out.action, atol=1e-5)


def test_the_planner_learns_from_actions_through_the_context(make_model, make_batch) -> None:
    model = make_model()
    batch = make_batch(model.config)
    JointObjective(model, video_weight=0.0)(batch, draws_for(batch)).action.backward()
    gradient = model.video.blocks[0].self_attn.k.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
    assert model.video.head.head.weight.grad is None


def test_padding_rows_and_frames_do_not_count(make_model, make_batch) -> None:
    model = make_model()
    batch = make_batch(model.config)
    is_pad = batch.action_is_pad_BH.clone()
    is_pad[1, 40:] = True
    frame_is_pad = batch.latent_is_pad_BF.clone()
    frame_is_pad[1, 2:] = True
    padded = replace(batch, action_is_pad_BH=is_pad, latent_is_pad_BF=frame_is_pad)
    drawn = draws_for(batch)
    objective = JointObjective(model)
    with torch.no_grad():
        before = objective(padded, drawn)
        noise = drawn.action_noise.clone()
        noise[1, 48:] += 5  # chunk 3 of sample 1 is padding from end to end
        video_noise = drawn.video_noise.clone()
        video_noise[1, :, 2:] += 5
        after = objective(padded, drawn._replace(action_noise=noise, video_noise=video_noise))
    torch.testing.assert_close(after.action, before.action, rtol=0, atol=0)
    torch.testing.assert_close(after.video, before.video, rtol=0, atol=0)


def test_a_sample_that_is_all_padding_has_no_loss_and_no_nan() -> None:
    assert masked_mean(torch.tensor([3.0, 4.0]), torch.tensor([True, True])) == 0
    assert masked_mean(torch.tensor([3.0, 4.0]), torch.tensor([False, True])) == 3


def test_pure_noise_and_pure_data_have_no_weight() -> None:
    velocity, target = torch.randn(1, 32, 4), torch.randn(1, 32, 4)
    no_pad = torch.zeros(1, 32, dtype=torch.bool)
    for time in (0.0, 1000.0):
        loss = action_loss(velocity, target, torch.full((1, 2), time), no_pad, shift=5.0)
        assert loss == pytest.approx(0.0, abs=1e-6)
    middle = action_loss(velocity, target, torch.full((1, 2), 500.0), no_pad, shift=5.0)
    assert middle == pytest.approx(2.0764 * float((velocity - target).square().mean()), rel=1e-4)


def test_the_clean_first_frame_does_not_count_in_the_video_loss() -> None:
    velocity, target = torch.zeros(1, 3, 3, 2, 2), torch.zeros(1, 3, 3, 2, 2)
    velocity[:, :, 0] = 100
    loss = video_loss(velocity, target, torch.tensor([500.0]), torch.zeros(1, 3, dtype=torch.bool), shift=5.0)
    assert loss == 0


def test_the_masks_are_those_drawn_in_the_docstring() -> None:
    causal = frame_mask(3, 1, only_first=False, device=torch.device("cpu"))
    assert causal.int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    first = frame_mask(3, 1, only_first=True, device=torch.device("cpu"))
    assert first.int().tolist() == [[1, 0, 0], [1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize(
    ("variant", "memory", "routing"),
    [
        (Ablation.NAIVE_ASYNC, False, False),
        (Ablation.MEMORY, True, False),
        (Ablation.OVCR, False, True),
        (Ablation.FULL, True, True),
    ],
)
def test_an_ablation_switches_what_it_says(
    make_model, make_batch, variant: Ablation, memory: bool, routing: bool
) -> None:
    config: AhaWamConfig = ablate(make_model().config, variant)
    model = make_model(memory_window=config.memory_window, queries=config.queries)
    batch = make_batch(config)
    drawn = draws_for(batch)
    with torch.no_grad():
        base = joint_velocities(model, batch, drawn).action
        past = joint_velocities(model, replace(batch, history_BMCHW=-batch.history_BMCHW), drawn).action
        seen = joint_velocities(
            model, replace(batch, observations_BKCHW=-batch.observations_BKCHW), drawn
        ).action
        state = joint_velocities(model, replace(batch, states_BKJ=-batch.states_BKJ), drawn).action
    assert (not torch.equal(past, base)) is memory
    assert (not torch.equal(seen, base)) is routing
    assert not torch.equal(state, base)
    parts = model.parameter_counts()
    assert ("editor" in parts, "query_encoder" in parts) == (routing, routing)


def test_fast_wam_shows_the_state_to_the_planner_too(make_model, make_batch) -> None:
    model = make_model(
        queries=0,
        memory_window=0,
        proprio_in_planner=True,
        first_frame_causal=True,
        chunk_rows=32,
        horizon_rows=32,
    )
    batch = make_batch(model.config)
    drawn = draws_for(batch)
    with torch.no_grad():
        base = joint_velocities(model, batch, drawn)
        other = joint_velocities(model, replace(batch, states_BKJ=-batch.states_BKJ), drawn)
    assert not torch.equal(base.video, other.video)


def test_without_routing_and_history_all_chunks_read_one_context(make_model, make_batch) -> None:
    model = make_model(queries=0)
    batch = make_batch(model.config)
    with torch.no_grad():
        routed = chunk_contexts(model, batch, current_context(model, batch))
    per_chunk = routed.k.unflatten(1, (batch.size, batch.chunks))
    assert (per_chunk == per_chunk[:, :, :1]).all()


def test_noise_times_follow_the_named_distribution(make_model, make_batch) -> None:
    batch = make_batch(make_model().config)
    times = torch.stack([draw(batch, generator(i)).action_u.flatten() for i in range(400)]).flatten()
    assert 0.48 < times.mean() < 0.52
    assert (times < 0.1).float().mean() == pytest.approx(0.1, abs=0.02)
    logit = torch.stack(
        [draw(batch, generator(i), times=NoiseTimes.LOGIT_NORMAL).action_u.flatten() for i in range(400)]
    ).flatten()
    assert (logit < 0.1).float().mean() == pytest.approx(0.014, abs=0.01)


def test_one_time_per_sample_is_shared_by_its_chunks(make_model, make_batch) -> None:
    batch = make_batch(make_model().config)
    shared = draw(batch, generator(), per_chunk=False).action_u
    assert (shared == shared[:, :1]).all()
    assert len(draw(batch, generator(), per_chunk=True).action_u.unique()) == batch.size * batch.chunks


def test_bfloat16_strays_little_from_float32(make_model, make_batch) -> None:
    model = make_model()
    batch = make_batch(model.config)
    drawn = draws_for(batch)
    objective = JointObjective(model)
    exact = objective(batch, drawn)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = objective(batch, drawn)
    rough.total.backward()
    assert rough.total.dtype is torch.float32
    assert float(rough.total.detach()) == pytest.approx(float(exact.total.detach()), rel=0.02)
    assert all(p.grad is None or p.grad.dtype is torch.float32 for p in model.parameters())


def test_the_grids_of_one_two_and_four_steps_lie_in_the_grid_of_sixteen() -> None:
    grid = sigma_grid(16, shift_factor=5.0)
    for steps in (1, 2, 4):
        assert sigma_grid(steps, shift_factor=5.0) == pytest.approx(grid[:: 16 // steps])


def test_training_and_inference_predict_one_velocity_at_sizes_without_a_common_factor(
    make_model, make_batch
) -> None:
    """A video DiT wider than its heads was refused, and no test ran sizes that differ from the tiny preset's."""
    heads = {"layers": 2, "heads": 3, "head_dim": 14}
    model = make_model(
        video=ExpertConfig(width=40, ffn=50, freq_dim=22, **heads),
        action=ExpertConfig(width=26, ffn=34, freq_dim=18, eps=1e-5, **heads),
        text_dim=19,
        context_len=5,
        state_dim=11,
        action_dim=7,
        image_height=32,
        image_width=96,
        queries=3,
        memory_window=2,
        chunk_rows=6,
        horizon_rows=18,
    )
    batch, config = make_batch(model.config), model.config
    drawn = draws_for(batch)
    with torch.no_grad():
        want = joint_velocities(model, batch, drawn)
        sigma = shift(drawn.action_u, config.train_shift).repeat_interleave(config.chunk_rows, dim=1)[
            ..., None
        ]
        have = action_velocity(
            model,
            interpolate(batch.actions_BHA, drawn.action_noise, sigma),
            want.action_t,
            context=chunk_contexts(model, batch, current_context(model, batch)),
            text=chunk_text(model, batch),
            rope=action_rope(model, batch),
        )
    assert want.video.shape == batch.z_BCFHW.shape
    torch.testing.assert_close(have, want.action, atol=1e-5, rtol=0)


def test_the_training_pass_fits_together_at_the_size_of_the_paper(make_batch) -> None:
    """On the meta device: shapes only, no memory."""
    config = replace(paper(), horizon_rows=80, memory_spacing_rows=96)
    sizes = SampleLayout(horizon_rows=80, max_offset=15)
    small = make_batch(replace(tiny(), horizon_rows=80))
    B, K, F, M = 2, sizes.chunks, sizes.latent_frames, sizes.history_frames
    cells = (config.vae.z_dim, 24, 20)
    with torch.device("meta"):
        model = AhaWam(config)
        batch = replace(
            small,
            **{
                "positions_BF": torch.zeros(B, F, dtype=torch.int64),
                "history_positions_BM": torch.zeros(B, M, dtype=torch.int64),
                "history_valid_B": torch.zeros(B, dtype=torch.int64),
                "text_BTE": torch.zeros(B, config.context_len, config.text_dim),
                "states_BKJ": torch.zeros(B, K, config.state_dim),
                "actions_BHA": torch.zeros(B, 80, config.action_dim),
                "action_is_pad_BH": torch.zeros(B, 80, dtype=torch.bool),
                "latent_is_pad_BF": torch.zeros(B, F, dtype=torch.bool),
                "z_BCFHW": torch.zeros(B, cells[0], F, *cells[1:]),
                "history_BMCHW": torch.zeros(B, M, *cells),
                "observations_BKCHW": torch.zeros(B, K, *cells),
            },
        )
        drawn = Draws(batch.z_BCFHW, torch.zeros(B), batch.actions_BHA, torch.zeros(B, K))
        losses = JointObjective(model)(batch, drawn)
        out = joint_velocities(model, batch, drawn)
    assert out.video.shape == (2, 48, 4, 24, 20)
    assert out.action.shape == (2, 80, 14)
    losses.total.backward()
    assert all(p.grad is not None for p in model.parameters())
