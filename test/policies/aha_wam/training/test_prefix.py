# SPDX-License-Identifier: Apache-2.0
"""Training with rows given: what counts in the loss, what a network learns from it, what its bundle says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from training_data import Sizes, random_batch, small_config

from wam.core.errors import ConfigError
from wam.models.bundle import open_bundle
from wam.models.layers.flow import sigma_grid
from wam.policies.aha_wam import stages
from wam.policies.aha_wam.config import tiny
from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.prefix import denoise_after, given_rows
from wam.policies.aha_wam.training.batch import LatentBatch
from wam.policies.aha_wam.training.config import AhaWamOptimSection, AhaWamTrainConfig
from wam.policies.aha_wam.training.distill import chunk_inputs, rollout
from wam.policies.aha_wam.training.forward import (
    JointObjective,
    action_velocity,
    chunk_text,
    draw,
    joint_velocities,
)
from wam.policies.aha_wam.training.recipe import DISTILL_RECIPE, RECIPE
from wam.policies.bundles import load_policy
from wam.training.config_reading import parse_config
from wam.training.loop import learning_rate, make_optimiser, set_learning_rate
from wam.training.runner import run_recipe


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_first_rows_of_each_chunk_are_the_ones_given() -> None:
    assert given_rows(torch.tensor([0, 2]), rows=3).tolist() == [[False] * 3, [True, True, False]]


def test_rows_given_do_not_count_in_the_loss_and_every_other_row_does(make_model, make_batch) -> None:
    model = make_model(prefix_rows=6)
    batch = make_batch(model.config)
    drawn = draw(batch, generator(), prefix_rows=6)
    given = given_rows(drawn.prefix, rows=model.config.chunk_rows).flatten(1)
    assert 0 < given.sum() < given.numel()
    with torch.no_grad():
        out = joint_velocities(model, batch, drawn)
        before = JointObjective(model)(batch, drawn).action
        noise = drawn.action_noise.masked_fill(given[..., None], 7.0)
        after = JointObjective(model)(batch, drawn._replace(action_noise=noise)).action
        noise = drawn.action_noise.masked_fill(~given[..., None], 7.0)
        others = JointObjective(model)(batch, drawn._replace(action_noise=noise)).action
    assert torch.equal(out.given, given)
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert not torch.equal(others, before)


def test_every_number_of_rows_up_to_the_bound_is_drawn(make_batch) -> None:
    batch = make_batch(small_config())
    seen = torch.cat([draw(batch, generator(i), prefix_rows=3).prefix.flatten() for i in range(40)])
    counts = torch.bincount(seen, minlength=5).tolist()
    assert counts[4] == 0
    assert min(counts[:4]) > 0.15 * len(seen)


def test_without_rows_given_a_step_is_what_it_was(make_model, make_batch) -> None:
    """The option must not move a random number, a velocity or a loss of the released recipe."""
    model = make_model()
    batch = make_batch(model.config)
    off, on = draw(batch, generator()), draw(batch, generator(), prefix_rows=4)
    assert off.prefix is None
    for mine, theirs in zip(off[:4], on[:4], strict=True):
        assert torch.equal(mine, theirs)
    assert JointObjective(model).draw(batch, generator()).prefix is None
    with torch.no_grad():
        plain = joint_velocities(model, batch, off)
        none = joint_velocities(model, batch, off._replace(prefix=torch.zeros_like(on.prefix)))
    assert plain.given is None
    torch.testing.assert_close(none.action, plain.action, rtol=0, atol=1e-5)


def test_a_time_for_every_row_reaches_that_row_alone_in_the_first_layer(make_model, make_batch) -> None:
    model = make_model()
    batch = make_batch(model.config)
    B, K, R = batch.size, batch.chunks, model.config.chunk_rows
    times = torch.full((B, K, R), 500.0)
    mods = model.action.modulations(times)
    assert mods.shape[:3] == (B, K, R)
    times[0, 1, 2] = 0.0
    moved = (model.action.modulations(times) - mods).abs().amax((-1, -2, -3)) > 0
    assert moved.nonzero().tolist() == [[0, 1, 2]]
    inputs = chunk_inputs(model, batch)
    how = {"context": inputs.context, "text": chunk_text(model, batch), "rope": inputs.rope}
    with torch.no_grad():
        shared = action_velocity(model, batch.actions_BHA, torch.full((B, K), 500.0), **how)
        rows = action_velocity(model, batch.actions_BHA, torch.full((B, K, R), 500.0), **how)
        other = action_velocity(model, batch.actions_BHA, times, **how)
    torch.testing.assert_close(rows, shared, rtol=0, atol=1e-5)
    chunks = (other - shared).abs().unflatten(1, (K, R)).amax((-1, -2)) > 1e-6
    assert chunks.nonzero().tolist() == [[0, 1]]


ROWS, GIVEN, STEPS, SAMPLES = 8, 3, 140, 24


def two_modes(modes_B: Tensor, width: int) -> Tensor:
    """Rows that go up, or down; [B, ROWS, width]."""
    return (modes_B[:, None, None] * torch.linspace(0.5, 1.5, ROWS)[None, :, None]).expand(-1, -1, width)


@pytest.fixture(scope="module")
def forked() -> tuple[AhaWam, LatentBatch]:
    """A network that learnt two ways of doing one thing, with nothing but rows given to tell which; and a batch."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = small_config(
        image_height=32,
        image_width=32,
        memory_window=0,
        queries=0,
        chunk_rows=ROWS,
        horizon_rows=ROWS,
        action_dim=2,
        state_dim=2,
        context_len=2,
        prefix_rows=GIVEN,
        video=replace(tiny().video, layers=2),
        action=replace(tiny().action, layers=2),
    )
    model = AhaWam(config)
    assert model.video is not None
    model.video.requires_grad_(False)
    one = random_batch(config, sizes=Sizes(batch=1, frames=2, history=0, chunks=1))
    batch = LatentBatch(
        **{
            name: getattr(one, name).expand(SAMPLES, *getattr(one, name).shape[1:])
            for name in LatentBatch.__dataclass_fields__
        }
    )
    objective = JointObjective(model, video_weight=0.0)
    options = AhaWamOptimSection(learning_rate=5e-3)
    optimiser = make_optimiser(objective, options)
    for step in range(STEPS):
        random = generator(step)
        modes = 2.0 * torch.randint(2, (SAMPLES,), generator=random) - 1.0
        seen = replace(batch, actions_BHA=two_modes(modes, config.action_dim))
        set_learning_rate(optimiser, learning_rate(step, total=STEPS, options=options))
        optimiser.zero_grad()
        objective(seen, objective.draw(seen, random)).total.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), options.clip_norm)
        optimiser.step()
    return model, batch


@pytest.mark.parametrize("rows", [1, GIVEN])
def test_a_network_trained_so_continues_the_mode_of_the_rows_given(forked, rows: int) -> None:
    model, batch = forked
    modes = torch.tensor([1.0, -1.0]).repeat(SAMPLES // 2)
    wanted = two_modes(modes, model.config.action_dim)
    noise = torch.randn(wanted.shape, generator=generator(7))
    inputs = chunk_inputs(model, batch)
    with torch.no_grad():
        free = rollout(model, batch, inputs, noise, steps=10)[10]
        held = denoise_after(
            model,
            wanted[:, :rows],
            noise,
            plan=stages.schedule(model.action, sigma_grid(10, shift_factor=model.config.infer_shift)),
            context=inputs.context,
            text=chunk_text(model, batch),
            rope=inputs.rope,
        )
    assert torch.equal(held[:, :rows], wanted[:, :rows])

    def other_mode(rows_BRA: Tensor) -> float:
        return float((rows_BRA[:, rows:].mean((1, 2)) * modes < 0).float().mean())

    assert other_mode(held) == 0.0
    assert float((held - wanted).abs().mean()) < 0.2
    # Both modes come out of a chunk that is given nothing, so half of them leave the mode of what is executed.
    assert 0.2 < other_mode(free) < 0.8
    assert float((free.abs() - wanted.abs()).abs().mean()) < 0.3


def values_with(values: dict[str, Any], **data: Any) -> AhaWamTrainConfig:
    return parse_config(AhaWamTrainConfig, {**values, "data": {**values["data"], **data}})


def test_a_run_with_rows_given_makes_a_bundle_that_says_so_and_is_conditioned(run_values) -> None:
    values = {**run_values, "optim": {**run_values["optim"], "steps": 1}}
    result = run_recipe(RECIPE, values_with(values, prefix_rows=5))
    assert result.finished
    manifest = open_bundle(result.bundle).manifest
    assert manifest.model["prefix_rows"] == 5
    assert manifest.sampler["prefix"] == "condition"
    assert load_policy(result.bundle, planner=False).executor._prefix_rows == 5


def test_a_run_without_rows_given_makes_a_bundle_with_no_word_of_them(run_values) -> None:
    values = {**run_values, "optim": {**run_values["optim"], "steps": 1}}
    result = run_recipe(RECIPE, values_with(values))
    assert "prefix" not in (result.bundle / "policy.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("rows", [-1, 16])
def test_more_rows_than_a_chunk_has_to_spare_are_refused(run_values, rows: int) -> None:
    with pytest.raises(ConfigError, match=rf"data\.prefix_rows: got {rows}; allowed: 0 to 15"):
        run_recipe(RECIPE, values_with(run_values, prefix_rows=rows))


def test_the_rows_are_set_in_one_place(run_values) -> None:
    overrides = {**run_values["model"]["overrides"], "prefix_rows": 2}
    with pytest.raises(
        ConfigError, match=r"model\.overrides\.prefix_rows: got 2; allowed: data\.prefix_rows"
    ):
        values_with({**run_values, "model": {**run_values["model"], "overrides": overrides}})


def test_distillation_gives_no_rows_and_says_so(run_values, tmp_path) -> None:
    values = {**run_values, "model": {"bundle": str(tmp_path)}}
    with pytest.raises(
        ConfigError, match=r"data\.prefix_rows: got 2; allowed: 0: distillation gives no rows"
    ):
        run_recipe(DISTILL_RECIPE, values_with(values, prefix_rows=2))
