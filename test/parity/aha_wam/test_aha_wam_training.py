# SPDX-License-Identifier: Apache-2.0
"""Groups C0, C1, C2, D and E: losses and gradients of joint training, offsets, and distillation.

The golden vectors hold every random number that the authors' code drew, so a step can be repeated exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from wam.models.aha_wam.key_map import from_released, rename_released
from wam.models.aha_wam.model import AhaWam
from wam.models.aha_wam.video_dit import LayerKv
from wam.training.batch import FRAMES_PER_LATENT, LatentBatch, PixelBatch, collate, latent_padding
from wam.training.distill import (
    ANCHORS,
    TEACHER_STEPS,
    ChunkInputs,
    freeze_for_distillation,
    rollout,
    student_endpoint,
    teacher_path,
)
from wam.training.forward import (
    Draws,
    JointObjective,
    action_rope,
    history_kv,
    joint_velocities,
    planner_text,
)
from wam.training.latents import LatentEncoder
from wam.training.losses import endpoint_loss

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
    stride = golden.info["config"]["action_video_freq_ratio"]
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


@pytest.mark.parametrize("group", ["C1", "C2", "D"])
def test_keys_and_values_of_valid_history_frames_agree(golden, encoder: LatentEncoder, group: str) -> None:
    batch = encoder.batch(pixels(golden, group))
    kv = history_kv(golden.model, batch, planner_text(golden.model, batch))
    assert kv is not None
    tokens = golden.config.frame_tokens
    for sample, valid in enumerate(batch.history_valid_B.tolist()):
        close(
            kv.k[:, sample, -valid * tokens :], golden.io[f"{group}.history_k"][:, sample, -valid * tokens :]
        )
        close(
            kv.v[:, sample, -valid * tokens :], golden.io[f"{group}.history_v"][:, sample, -valid * tokens :]
        )


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
    assert len(stored) >= 10
    for key, want in stored.items():
        name = from_released(key.removeprefix(f"{group}.grad."))
        assert name is not None
        close(found[name], want, atol=5e-5 * float(want.abs().max()))


@pytest.fixture(scope="module")
def chunk_batch(golden, encoder: LatentEncoder) -> tuple[LatentBatch, ChunkInputs]:
    """Inputs of group E, whose planner context is stored but whose joint states are not.

    The states are recovered from the stored path of the teacher: 14 unknowns of a chunk in 28 x 16 equations, by
    Gauss-Newton. Everything else of the group is then compared.
    """
    io, model = golden.io, golden.model
    batch = encoder.batch(pixels(golden, "C1"))
    chunks = io["E.editor_k"].shape[2]
    context = LayerKv(io["E.editor_k"].flatten(1, 2), io["E.editor_v"].flatten(1, 2))
    inputs = ChunkInputs(context, action_rope(model, batch))
    noise = io["E.rng.0.randn_like"]
    want = torch.cat((io["E.captured.1"], io["E.captured.16"]), dim=-1)

    def path(states: Tensor) -> Tensor:
        with torch.no_grad():
            found = rollout(model, with_states(batch, states), inputs, noise, steps=TEACHER_STEPS)
        return torch.cat((found[1], found[TEACHER_STEPS]), dim=-1)

    def per_chunk(values: Tensor) -> Tensor:
        return values.unflatten(1, (chunks, -1)).flatten(2, 3).double()

    states = torch.zeros(batch.size, chunks, golden.config.state_dim)
    for _ in range(6):
        columns = []
        for joint in range(golden.config.state_dim):
            nudge = torch.zeros_like(states)
            nudge[..., joint] = 1e-3
            columns.append(per_chunk(path(states + nudge) - path(states - nudge)) / 2e-3)
        residual = per_chunk(path(states) - want)
        step = torch.linalg.lstsq(torch.stack(columns, dim=-1), residual[..., None]).solution[..., 0]
        states = states - step.float()
    return with_states(batch, states), inputs


def with_states(batch: LatentBatch, states: Tensor) -> LatentBatch:
    return replace(batch, states_BKJ=states)


@pytest.fixture(scope="module")
def student(golden) -> AhaWam:
    model = AhaWam(golden.config)
    weights = rename_released(load_file(golden.directory / "tiny_student.safetensors"))
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


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_student_samples_the_stored_actions(golden, chunk_batch, student: AhaWam, steps: int) -> None:
    batch, inputs = chunk_batch
    with torch.no_grad():
        states = rollout(student, batch, inputs, golden.io["E.rng.0.randn_like"], steps=steps)
    close(states[steps], golden.io[f"E.student_action.n{steps}"], 2e-5)
