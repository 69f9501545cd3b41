# SPDX-License-Identifier: Apache-2.0
"""Groups F, G, H, I and K: schedules, rotations, normaliser, composite image, VAE, text encoder, bfloat16."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from wam.models.images import compose, compose_training, standard_layout
from wam.models.layers.flow import TRAIN_TIMESTEPS, loss_weight, sigma_grid
from wam.models.layers.rope import angles, rope_1d, rope_3d, split_3d
from wam.models.normalisation import FieldStats, Normaliser, NormMode
from wam.models.text import build_umt5
from wam.policies.aha_wam import stages
from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.vae import autoencoder, collapse, decode_video, encode_video
from wam.policies.aha_wam.video_dit import LayerKv, frame_mask

pytestmark = pytest.mark.parity


def close(have: Tensor, want: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(have, want, atol=atol, rtol=0, check_dtype=False)


def test_the_noise_levels_of_every_sampler_agree_also_rounded_to_bfloat16(golden) -> None:
    samplers = golden.samplers("F.timesteps.")
    assert {steps for steps, _shift in samplers.values()} >= {1, 2, 4}
    for name, (steps, shift) in samplers.items():
        sigmas = torch.tensor(sigma_grid(steps, shift_factor=shift), dtype=torch.float64)
        for kind, ours, atol in (
            ("timesteps", TRAIN_TIMESTEPS * sigmas[:-1], 1e-4),
            ("deltas", sigmas.diff(), 1e-6),
        ):
            place = name.replace("timesteps", kind)
            close(ours, golden.io[place], atol)
            rounded = golden.io[place.replace(kind, f"{kind}_bf16")]
            close(golden.io[place].bfloat16(), rounded, 0)


def test_the_loss_weight_agrees(golden) -> None:
    ours = loss_weight(golden.io["F.weight_grid"].double(), shift_factor=golden.config.train_shift)
    close(ours, golden.io["F.weight"], 1e-6)


def test_the_planners_training_masks_agree(golden) -> None:
    found = {k: int(k.rsplit("f", 1)[1]) for k in golden.io if k.startswith("F.video_mask.f")}
    assert found
    for name, frames in found.items():
        tokens = len(golden.io[name]) // frames
        ours = frame_mask(frames, tokens, only_first=False, device=torch.device("cpu"))
        assert torch.equal(ours, golden.io[name]), name


def test_rotation_angles_agree_on_every_axis(golden) -> None:
    c = golden.config.video
    for axis, dim in zip("thw", split_3d(c.head_dim), strict=True):
        want = golden.io[f"F.freqs_{axis}.real"]
        ours = angles(torch.arange(len(want)), dim=dim)
        close(ours.cos(), want, 1e-12)
        close(ours.sin(), golden.io[f"F.freqs_{axis}.imag"], 1e-12)
    want = golden.io["F.freqs_action.real"]
    ours = angles(torch.arange(len(want)), dim=c.head_dim)
    close(ours.cos(), want, 1e-12)
    close(ours.sin(), golden.io["F.freqs_action.imag"], 1e-12)


def test_rotations_of_a_video_frame_and_of_a_chunk_agree(golden) -> None:
    c, io = golden.config, golden.io
    for p in range(golden.prefills):
        if f"A.p{p}.video_pre.freqs.real" not in io:
            continue
        rope = rope_3d(
            io["A.frame_index"][p : p + 1],
            rows=c.token_rows,
            columns=c.token_columns,
            head_dim=c.video.head_dim,
        )
        close(rope.cos[..., ::2], io[f"A.p{p}.video_pre.freqs.real"], 1e-7)
        close(rope.sin[..., 1::2], io[f"A.p{p}.video_pre.freqs.imag"], 1e-7)
        for chunk in range(golden.chunks):
            place = f"A.p{p}.c{chunk}.action_pre.freqs"
            rope = rope_1d(torch.arange(c.chunk_rows) + chunk * c.chunk_rows, head_dim=c.action.head_dim)
            close(rope.cos[..., ::2], io[f"{place}.real"], 1e-7)
            close(rope.sin[..., 1::2], io[f"{place}.imag"], 1e-7)


def test_tokens_time_and_text_before_the_first_block_agree(golden) -> None:
    io, video, action = golden.io, golden.model.video, golden.model.action
    for p in range(golden.prefills):
        if f"A.p{p}.video_pre.tokens" not in io:
            continue
        with torch.inference_mode():
            close(video.tokens(io[f"A.p{p}.latents"]), io[f"A.p{p}.video_pre.tokens"])
            close(video.text_embedding(io["context"]), io[f"A.p{p}.video_pre.context"])
            embedded, projected = video.time(torch.zeros(1, golden.config.frame_tokens))
            close(embedded, io[f"A.p{p}.video_pre.t"])
            close(projected, io[f"A.p{p}.video_pre.t_mod"])
            place = f"A.p{p}.c0"
            rows = torch.cat((io["context"], stages.proprio_row(golden.model, io[f"{place}.proprio"])), dim=1)
            close(action.text_embedding(rows), io[f"{place}.action_pre.context"])
            # The reference records the tokens before the branch embedding is added.
            close(action.action_encoder(io[f"{place}.x_steps"][0]), io[f"{place}.action_pre.tokens"])


@pytest.mark.parametrize("mode", list(NormMode))
def test_the_normaliser_agrees_in_both_directions(golden, mode: NormMode) -> None:
    io = golden.io
    names = ("mean", "std", "min", "max", "q01", "q99")
    stats = FieldStats({name: io[f"G.stat.{name}"].double().numpy() for name in names})
    normaliser = Normaliser(stats, mode=mode)
    forward = io[f"G.{mode.value}.forward"]
    close(torch.from_numpy(normaliser.to_model(io["G.x"].numpy())), forward)
    close(torch.from_numpy(normaliser.to_si(forward.numpy())), io[f"G.{mode.value}.backward"])


def test_the_composite_image_agrees_bit_by_bit_at_deployment_and_closely_in_training(golden) -> None:
    views = golden.io["H.views_u8"]
    height, width = golden.io["H.deploy_composite_u8"].shape[:2]
    cameras = ("head", "left", "right")
    layout = standard_layout(cameras, height=height, width=width)
    deployed = compose({name: views[i].numpy() for i, name in enumerate(cameras)}, layout)
    np.testing.assert_array_equal(deployed, golden.io["H.deploy_composite_u8"].numpy())
    trained = compose_training({n: views[i].permute(2, 0, 1)[None] for i, n in enumerate(cameras)}, layout)
    close(trained, golden.io["H.train_composite"], 1e-6)


@torch.inference_mode()
def test_the_video_vae_agrees_and_its_frame_form_is_the_same_on_a_first_frame(golden) -> None:
    vae = autoencoder(golden.config.vae)
    vae.load_state_dict(golden.vae_state, strict=True)
    close(encode_video(vae, golden.io["I.video"], config=golden.config.vae), golden.io["I.latents"])
    close(decode_video(vae, golden.io["I.latents"], config=golden.config.vae), golden.io["I.decoded"])
    frame = collapse(golden.vae_state, golden.config.vae)
    close(frame(golden.io["I.video"][:, :, 0]), golden.io["I.latent_first"])


@torch.inference_mode()
def test_the_text_encoder_is_the_library_class_with_renamed_tensors(golden) -> None:
    prefix = "text_encoder."
    encoder = build_umt5(
        {k.removeprefix(prefix): v for k, v in golden.weights.items() if k.startswith(prefix)}
    )
    assert encoder.config.num_layers == golden.info["config"]["text_encoder_config"]["num_layers"]
    out = encoder(input_ids=golden.io["I.text_ids"], attention_mask=golden.io["I.text_mask"].long())
    close(out.last_hidden_state, golden.io["I.text_out"])


@torch.inference_mode()
def test_bfloat16_strays_no_further_than_the_reference_in_bfloat16(golden) -> None:
    """Ours keeps the integration state in float32, so it must stay closer to float32 than the reference does.

    Root mean square: the largest single difference is a matter of luck, which other weights would turn round.
    """
    half = load_file(golden.part("tiny_io_bf16.safetensors"))
    model = AhaWam(golden.config).eval()
    model.load_state_dict(golden.model.state_dict())
    model = model.bfloat16()
    vae = collapse(golden.vae_state, golden.config.vae, dtype=torch.bfloat16)
    rows = golden.config.chunk_rows
    z = stages.vae_encode(vae, half["K.image"])
    context = golden.io["context"].bfloat16()
    kv = stages.planner_prefill(
        model.video,
        z,
        text=stages.text_context(model.video, context),
        modulations_L6D=model.video.clean_modulations(),
        rope=rope_3d(
            torch.tensor([0]),
            rows=golden.config.token_rows,
            columns=golden.config.token_columns,
            head_dim=golden.config.video.head_dim,
        ),
    )
    samplers = {n: at for n, at in golden.samplers("B.action.").items() if n.replace("B.", "K.") in half}
    assert samplers
    for name, (steps, shift) in samplers.items():
        ours = []
        for c in range(len(half["K.obs_images"])):
            routed = stages.route(
                model, stages.vae_encode(vae, half["K.obs_images"][c : c + 1]), LayerKv(kv.k, kv.v)
            )
            text = stages.proprio_kv(
                model, half["K.proprio"][c : c + 1], stages.text_context(model.action, context)
            )
            ours.append(
                stages.denoise(
                    functools.partial(stages.denoise_step, model),
                    half["K.start_latents"][:, c * rows : (c + 1) * rows],
                    plan=stages.schedule(model.action, sigma_grid(steps, shift_factor=shift)),
                    context=routed,
                    text=text,
                    rope=rope_1d(torch.arange(rows) + rows * c, head_dim=golden.config.action.head_dim),
                )[0]
            )
        exact = golden.io[name]
        ours_off = float((torch.stack(ours) - exact).square().mean().sqrt())
        theirs_off = float((half[name.replace("B.", "K.")] - exact).square().mean().sqrt())
        assert ours_off <= theirs_off, f"{name}: ours {ours_off}, reference {theirs_off} (RMS)"
