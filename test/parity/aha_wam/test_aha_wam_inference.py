# SPDX-License-Identifier: Apache-2.0
"""Groups A and B: prefills with rolling memory, routing, and chunks of every sampler."""

from __future__ import annotations

import functools
import re

import pytest
import torch
from torch import Tensor

from wam.models.layers.flow import sigma_grid
from wam.models.layers.rope import Rope, concatenate, rope_1d, rope_3d
from wam.policies.aha_wam import stages
from wam.policies.aha_wam.video_dit import LayerKv, VideoKv

pytestmark = pytest.mark.parity

KV_ATOL = 1e-5
ACTION_ATOL = 5e-5


def close(have: Tensor, want: Tensor, atol: float = KV_ATOL) -> None:
    torch.testing.assert_close(have, want, atol=atol, rtol=0)


def frame_rope(golden, position: int) -> Rope:
    c = golden.config
    return rope_3d(
        torch.tensor([position]), rows=c.token_rows, columns=c.token_columns, head_dim=c.video.head_dim
    )


def chunk_rope(golden, chunk: int) -> Rope:
    c = golden.config
    return rope_1d(torch.arange(c.chunk_rows) + c.chunk_rows * chunk, head_dim=c.action.head_dim)


@torch.inference_mode()
def prefill(golden, image: Tensor, position: int, memory: list[tuple[Rope, VideoKv]]) -> VideoKv:
    text = stages.text_context(golden.model.video, golden.io["context"])
    past = past_rope = None
    if memory:
        past = LayerKv(
            torch.cat([kv.k_unrotated for _, kv in memory], dim=2),
            torch.cat([kv.v for _, kv in memory], dim=2),
        )
        past_rope = concatenate([rope for rope, _ in memory])
    return stages.planner_prefill(
        golden.model.video,
        stages.vae_encode(golden.vae, image),
        text=text,
        modulations_L6D=golden.model.video.clean_modulations(),
        rope=frame_rope(golden, position),
        memory=past,
        memory_rope=past_rope,
    )


@pytest.fixture(scope="module")
def prefills(golden) -> list[VideoKv]:
    """All prefills of group A, each with up to `memory_window` earlier ones as its memory."""
    done: list[tuple[Rope, VideoKv]] = []
    for p in range(golden.prefills):
        position = int(golden.io["A.frame_index"][p])
        window = done[max(0, p - golden.config.memory_window) :]
        kv = prefill(golden, golden.io[f"A.p{p}.image"], position, window)
        done.append((frame_rope(golden, position), kv))
    return [kv for _, kv in done]


@torch.inference_mode()
def act(
    golden,
    kv: LayerKv,
    image: Tensor,
    proprio: Tensor,
    noise: Tensor,
    chunk: int,
    *,
    steps: int,
    shift: float,
) -> Tensor:
    model = golden.model
    routed = stages.route(model, stages.vae_encode(golden.vae, image), kv)
    text = stages.proprio_kv(model, proprio, stages.text_context(model.action, golden.io["context"]))
    return stages.denoise(
        functools.partial(stages.denoise_step, model),
        noise,
        plan=stages.schedule(model.action, sigma_grid(steps, shift_factor=shift)),
        context=routed,
        text=text,
        rope=chunk_rope(golden, chunk),
    )


def test_the_latent_of_every_image_agrees(golden) -> None:
    for p in range(golden.prefills):
        with torch.inference_mode():
            close(stages.vae_encode(golden.vae, golden.io[f"A.p{p}.image"]), golden.io[f"A.p{p}.latents"])


def test_keys_and_values_of_every_prefill_agree_also_after_the_memory_dropped_its_oldest(
    golden, prefills
) -> None:
    for p, kv in enumerate(prefills):
        close(kv.k, golden.io[f"A.p{p}.kv_k"])
        close(kv.v, golden.io[f"A.p{p}.kv_v"])


def test_every_action_chunk_agrees(golden, prefills) -> None:
    io, rows = golden.io, golden.config.chunk_rows
    for p, kv in enumerate(prefills):
        for c in range(golden.chunks):
            noise = io[f"A.p{p}.start_latents"][:, c * rows : (c + 1) * rows]
            chunk = act(
                golden,
                LayerKv(kv.k, kv.v),
                io[f"A.p{p}.c{c}.obs_image"],
                io[f"A.p{p}.c{c}.proprio"],
                noise,
                c,
                steps=golden.steps,
                shift=golden.config.infer_shift,
            )
            close(chunk[0], io[f"A.p{p}.c{c}.action_chunk"], ACTION_ATOL)


def detailed(golden) -> dict[str, tuple[int, int]]:
    """Places of group A with all intermediates -> their prefill and chunk."""
    found = (re.fullmatch(r"(A\.p(\d+)\.c(\d+))\.routed_k", name) for name in golden.io)
    places = {m[1]: (int(m[2]), int(m[3])) for m in found if m}
    assert places
    return places


def test_queries_and_routed_context_agree_layer_by_layer(golden, prefills) -> None:
    for place, (p, _chunk) in detailed(golden).items():
        kv = prefills[p]
        with torch.inference_mode():
            z = stages.vae_encode(golden.vae, golden.io[f"{place}.obs_image"])
            close(z, golden.io[f"{place}.obs_latents"])
            queries = stages.observation_queries(golden.model, z)
            routed = stages.route(golden.model, z, LayerKv(kv.k, kv.v))
        close(queries, golden.io[f"{place}.queries"].flatten(0, 1))
        close(routed.k, golden.io[f"{place}.routed_k"])
        close(routed.v, golden.io[f"{place}.routed_v"])


def test_the_velocity_of_every_integration_step_agrees(golden, prefills) -> None:
    for place, (p, chunk) in detailed(golden).items():
        kv = prefills[p]
        model, io = golden.model, golden.io
        with torch.inference_mode():
            routed = stages.route(
                model, stages.vae_encode(golden.vae, io[f"{place}.obs_image"]), LayerKv(kv.k, kv.v)
            )
            text = stages.proprio_kv(
                model, io[f"{place}.proprio"], stages.text_context(model.action, io["context"])
            )
            for i, t in enumerate(io[f"{place}.t_steps"]):
                velocity = stages.denoise_step(
                    model,
                    io[f"{place}.x_steps"][i],
                    modulations=model.action.modulations(t[0]),
                    context=routed,
                    text=text,
                    rope=chunk_rope(golden, chunk),
                )
                close(velocity, io[f"{place}.vel_steps"][i])


def test_every_sampler_agrees_on_all_chunks_of_one_prefill(golden) -> None:
    io, rows = golden.io, golden.config.chunk_rows
    kv = prefill(golden, io["B.image"], 0, [])
    close(kv.k, io["B.kv_k"])
    close(kv.v, io["B.kv_v"])
    samplers = golden.samplers("B.action.")
    assert {1, 2, 4} <= {steps for steps, _shift in samplers.values()}
    for name, (steps, shift) in samplers.items():
        for c in range(len(io["B.obs_images"])):
            chunk = act(
                golden,
                LayerKv(kv.k, kv.v),
                io["B.obs_images"][c : c + 1],
                io["B.proprio"][c : c + 1],
                io["B.start_latents"][:, c * rows : (c + 1) * rows],
                c,
                steps=steps,
                shift=shift,
            )
            torch.testing.assert_close(
                chunk[0],
                io[name][c],
                atol=ACTION_ATOL,
                rtol=0,
                msg=lambda text, at=f"{name}, chunk {c}": f"{at}: {text}",
            )
