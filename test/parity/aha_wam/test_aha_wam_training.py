# SPDX-License-Identifier: Apache-2.0
"""Groups C0, C1, C2, D and E: losses and gradients of joint training, offsets, and distillation.

The golden vectors hold every random number that the authors' code drew, so a step can be repeated exactly.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from wam.models.layers.flow import TRAIN_TIMESTEPS, sigma_grid
from wam.models.layers.rope import Rope
from wam.policies.aha_wam.key_map import from_released, rename_released
from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.training.batch import (
    FRAMES_PER_LATENT,
    LatentBatch,
    PixelBatch,
    collate,
    latent_padding,
)
from wam.policies.aha_wam.training.distill import (
    ANCHORS,
    TEACHER_STEPS,
    ChunkInputs,
    freeze_for_distillation,
    rollout,
    student_endpoint,
    teacher_path,
)
from wam.policies.aha_wam.training.forward import (
    Draws,
    JointObjective,
    action_rope,
    action_velocity,
    chunk_text,
    history_kv,
    joint_velocities,
    planner_text,
)
from wam.policies.aha_wam.training.latents import LatentEncoder
from wam.policies.aha_wam.training.losses import endpoint_loss
from wam.policies.aha_wam.video_dit import LayerKv

pytestmark = pytest.mark.parity

JOINT_GROUPS = ("C0", "C1", "C2", "D")


@pytest.fixture(scope="module")
def encoder(golden) -> LatentEncoder:
    return LatentEncoder(golden.vae_state, golden.config)


@pytest.fixture
def learner(golden) -> Iterator[AhaWam]:
    """The golden network with gradients switched on."""
    golden.model.requires_grad_(True)
    golden.model.zero_grad(set_to_none=True)
    yield golden.model
    golden.model.zero_grad(set_to_none=True)
    golden.model.requires_grad_(False)


def sample_of(golden, group: str) -> dict[str, Tensor]:
    prefix = f"{group}.sample."
    return {k.removeprefix(prefix): v for k, v in golden.io.items() if k.startswith(prefix)}


def pixels(golden, group: str) -> PixelBatch:
    """The stored sample in our layout; what the authors' code cuts out of it is cut out here."""
    raw = sample_of(golden, group)
    chunk = golden.config.chunk_rows
    stride = raw["action"].shape[1] // (raw["video"].shape[2] - 1)
    offsets = raw.get("action_offset", torch.zeros(len(raw["action"]), dtype=torch.int64))
    chunks = golden.io[f"{group}.queries"].shape[1]
    rows = torch.stack([torch.arange(chunks * chunk) + int(d) for d in offsets])
    if "chunk_obs_images" in raw:
        observations = raw["chunk_obs_images"]
    else:
        observations = raw["video"][:, :, : chunks * chunk // stride : chunk // stride].transpose(1, 2)

    def cut(values: Tensor) -> Tensor:
        return torch.stack([v[r] for v, r in zip(values, rows, strict=True)])

    assert raw["context_mask"].all()
    batch = PixelBatch(
        positions_BF=raw["video_temporal_position_ids"],
        history_positions_BM=raw["video_history_frame_indices"],
        history_valid_B=raw["video_history_valid_len"],
        text_BTE=raw["context"],
        states_BKJ=cut(raw["proprio"])[:, ::chunk],
        actions_BHA=cut(raw["action"]),
        action_is_pad_BH=cut(raw["action_is_pad"]),
        latent_is_pad_BF=latent_padding(raw["image_is_pad"]),
        offsets_B=offsets,
        video_B3PHW=raw["video"],
        history_BM3HW=raw["video_history"].transpose(1, 2),
        observations_BK3HW=observations,
    )
    return collate([batch])


def draws(golden, group: str) -> Draws:
    """The stored random numbers; offset training also drew one set of times that it never used."""
    drawn = [golden.io[k] for k in sorted(k for k in golden.io if k.startswith(f"{group}.rng."))]
    batch = drawn[0].shape[0]
    return Draws(drawn[0], drawn[1], drawn[2], drawn[-1].view(batch, -1))


def close(have: Tensor, want: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(have, want, atol=atol, rtol=0)


@pytest.mark.parametrize("group", JOINT_GROUPS)
def test_latents_of_video_and_history_agree(golden, encoder: LatentEncoder, group: str) -> None:
    batch = encoder.batch(pixels(golden, group))
    close(batch.z_BCFHW, golden.io[f"{group}.input_latents"])
    assert (pixels(golden, group).video_B3PHW.shape[2] - 1) % FRAMES_PER_LATENT == 0
    if f"{group}.history_latents" in golden.io:
        close(batch.history_BMCHW.transpose(1, 2), golden.io[f"{group}.history_latents"])


@pytest.mark.parametrize("group", JOINT_GROUPS)
def test_keys_and_values_of_valid_history_frames_agree(golden, encoder: LatentEncoder, group: str) -> None:
    batch = encoder.batch(pixels(golden, group))
    kv = history_kv(golden.model, batch, planner_text(golden.model, batch))
    assert (kv is None) == (f"{group}.history_k" not in golden.io)
    if kv is None:
        return
    tokens = golden.config.frame_tokens
    for sample, valid in enumerate(batch.history_valid_B.tolist()):
        if valid:
            own = slice(-valid * tokens, None)
            close(kv.k[:, sample, own], golden.io[f"{group}.history_k"][:, sample, own])
            close(kv.v[:, sample, own], golden.io[f"{group}.history_v"][:, sample, own])


@pytest.mark.parametrize("group", JOINT_GROUPS)
def test_both_velocities_agree(golden, encoder: LatentEncoder, group: str) -> None:
    out = joint_velocities(golden.model, encoder.batch(pixels(golden, group)), draws(golden, group))
    close(out.action, golden.io[f"{group}.pred_action"])
    close(out.video[:, :, 1:], golden.io[f"{group}.pred_video"][:, :, 1:])


@pytest.mark.parametrize("group", JOINT_GROUPS)
def test_losses_and_all_gradients_agree(golden, learner: AhaWam, encoder: LatentEncoder, group: str) -> None:
    batch = encoder.batch(pixels(golden, group))
    losses = JointObjective(learner)(batch, draws(golden, group))
    for name, value in losses._asdict().items():
        assert float(value.detach()) == pytest.approx(
            golden.info["scalars"][f"{group}.loss_{name}"], rel=1e-5
        )
    losses.total.backward()
    found = {name: parameter.grad for name, parameter in learner.named_parameters()}
    norms = rename_released(golden.info["scalars"][f"{group}.grad_l2"])
    assert set(norms) == set(found)
    for name, norm in norms.items():
        gradient = found[name]
        assert gradient is not None, name
        assert float(gradient.norm()) == pytest.approx(norm, rel=1e-4, abs=1e-7), name
    stored = {k: v for k, v in golden.io.items() if k.startswith(f"{group}.grad.")}
    assert stored
    for key, want in stored.items():
        name = from_released(key.removeprefix(f"{group}.grad."))
        assert name is not None
        close(found[name], want, atol=max(1e-9, 5e-5 * float(want.abs().max())))


NUDGE = 1e-5
"""Step of the one-sided differences, in float64."""
DAMPINGS = tuple(10.0**-i for i in range(1, 10))
"""Tried in every iteration, in units of the largest squared singular value."""


@pytest.fixture(scope="module")
def chunk_batch(golden, encoder: LatentEncoder) -> tuple[LatentBatch, ChunkInputs]:
    """Inputs of group E, whose planner context is stored but whose joint states are not.

    They are recovered from the stored path of the teacher by Levenberg-Marquardt in float64: every chunk has as
    many unknowns as the state has joints, and the rows of every stored anchor as its equations. The first two
    anchors, which cost little, give the start. Everything else of the group is then compared.
    """
    io = golden.io
    batch = encoder.batch(pixels(golden, "C1"))
    chunks = io["E.editor_k"].shape[2]
    context = LayerKv(io["E.editor_k"].flatten(1, 2), io["E.editor_v"].flatten(1, 2))
    exact = copy.deepcopy(golden.model).double()

    @torch.no_grad()
    def misses(states_NBKJ: Tensor, last: int) -> Tensor:
        """Return how far N guesses miss the anchors up to `last`, [N, B, K, equations], in one pass."""
        n, words = len(states_NBKJ), batch.text_BTE.double().repeat(len(states_NBKJ), 1, 1)
        many = replace(collate([batch] * n), states_BKJ=states_NBKJ.flatten(0, 1), text_BTE=words)
        text, rope = chunk_text(exact, many), Rope(*(r.double() for r in action_rope(exact, many)))
        spread = LayerKv(*(part.double().repeat(1, n, 1, 1) for part in context))
        sigmas = sigma_grid(TEACHER_STEPS, shift_factor=golden.config.infer_shift)
        x, found = io["E.rng.0.randn_like"].double().repeat(n, 1, 1), []
        for i, (now, then) in enumerate(itertools.pairwise(sigmas[: last + 1]), start=1):
            t = torch.full((many.size, chunks), TRAIN_TIMESTEPS * now, dtype=torch.float64)
            x = x + (then - now) * action_velocity(exact, x, t, context=spread, text=text, rope=rope)
            if i in ANCHORS:
                found.append(x.unflatten(0, (n, -1)) - io[f"E.captured.{i}"])
        return torch.cat(found, dim=-1).unflatten(2, (chunks, -1)).flatten(3)

    states = torch.zeros(batch.size, chunks, golden.config.state_dim, dtype=torch.float64)
    nudges = NUDGE * torch.eye(golden.config.state_dim)[:, None, None]
    for last in (2, TEACHER_STEPS):
        for _ in range(60):
            residual, *nudged = misses(torch.cat((states[None], states + nudges)), last)
            jacobian = (torch.stack(nudged, dim=-1) - residual[..., None]) / NUDGE
            left, gain, right = torch.linalg.svd(jacobian, full_matrices=False)
            along = (left.mT @ residual[..., None])[..., 0]
            damped = [gain / (gain**2 + d * gain[..., :1] ** 2) for d in DAMPINGS]
            steps = torch.stack([(right.mT @ (d * along)[..., None])[..., 0] for d in damped])
            guesses = torch.cat((states[None], states - steps))
            size, best = misses(guesses, last).norm(dim=-1).min(0)
            states = guesses.gather(0, best[None, ..., None].expand(1, -1, -1, guesses.shape[-1]))[0]
            if (size > 0.98 * residual.norm(dim=-1)).all():
                break
    found = replace(batch, states_BKJ=states.float())
    return found, ChunkInputs(context, action_rope(golden.model, batch))


@pytest.fixture(scope="module")
def student(golden) -> AhaWam:
    model = AhaWam(golden.config)
    weights = rename_released(load_file(golden.part("tiny_student.safetensors")))
    model.load_state_dict({**golden.model.state_dict(), **weights}, strict=True)
    return model


def test_the_teacher_passes_through_the_stored_anchors(golden, chunk_batch) -> None:
    batch, inputs = chunk_batch
    path = teacher_path(golden.model, batch, inputs, golden.io["E.rng.0.randn_like"])
    assert tuple(path) == ANCHORS
    for step, state in path.items():
        close(state, golden.io[f"E.captured.{step}"], 2e-5)
    close(path[TEACHER_STEPS], golden.io["E.teacher_final"], 2e-5)


def test_flow_and_loss_of_the_student_agree_and_only_its_action_expert_learns(
    golden, chunk_batch, student: AhaWam
) -> None:
    batch, inputs = chunk_batch
    freeze_for_distillation(student)
    path = {step: golden.io[f"E.captured.{step}"] for step in ANCHORS}
    flow, x0 = student_endpoint(student, batch, inputs, path, golden.io["E.rng.1.randint"])
    close(flow.detach(), golden.io["E.student_flow"], 2e-5)
    loss = endpoint_loss(x0, golden.io["E.teacher_final"], batch.action_is_pad_BH)
    assert float(loss.detach()) == pytest.approx(golden.info["scalars"]["E.loss_ode"], rel=1e-5)
    loss.backward()
    learning = {n for n, p in student.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    # The stored list names whole modules first and then some of their parameters.
    stored = set(golden.info["notes"]["E.student_modules_with_grad"])
    assert {"action_expert", "mot.action_branch_embedding"} <= stored
    assert {name.partition(".")[0] for name in stored} == {"action_expert", "mot"}
    assert learning == {
        n for n, _ in student.named_parameters() if n.startswith(("action.", "branch_embedding"))
    }


def test_the_student_samples_the_stored_actions(golden, chunk_batch, student: AhaWam) -> None:
    batch, inputs = chunk_batch
    samplers = golden.samplers("E.student_action.")
    assert samplers
    for name, (steps, _shift) in samplers.items():
        with torch.no_grad():
            states = rollout(student, batch, inputs, golden.io["E.rng.0.randn_like"], steps=steps)
        close(states[steps], golden.io[name], 2e-5)
