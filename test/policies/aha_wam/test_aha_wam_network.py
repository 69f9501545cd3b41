# SPDX-License-Identifier: Apache-2.0
"""The AHA-WAM networks: against the library classes, and the identities that the method rests on."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from wam.models.backends.stage import StageInputs
from wam.models.layers.flow import sigma_grid
from wam.models.layers.rope import Rope, concatenate, rope_1d, rope_3d
from wam.models.text import text_to_transformers
from wam.policies.aha_wam import stages
from wam.policies.aha_wam.config import AhaWamConfig, fast_wam, paper, preset, tiny
from wam.policies.aha_wam.convert.wan_names import dit_to_diffusers
from wam.policies.aha_wam.initialise import random_model, random_vae
from wam.policies.aha_wam.model import AhaWam, parameter_counts
from wam.policies.aha_wam.ovcr import ContextEditor
from wam.policies.aha_wam.vae import autoencoder, collapse, decode_video, encode_video
from wam.policies.aha_wam.video_dit import LayerKv, VideoKv

CONFIG = tiny()


@pytest.fixture(scope="module")
def model() -> AhaWam:
    torch.set_num_threads(1)
    return random_model(CONFIG, seed=1)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def latent(seed: int, frames: int = 1) -> Tensor:
    return normal(1, CONFIG.vae.z_dim, frames, CONFIG.latent_rows, CONFIG.latent_columns, seed=seed)


def frames_rope(*times: int) -> Rope:
    return rope_3d(
        torch.tensor(times),
        rows=CONFIG.token_rows,
        columns=CONFIG.token_columns,
        head_dim=CONFIG.video.head_dim,
    )


def text(seed: int = 0) -> Tensor:
    return normal(1, CONFIG.context_len, CONFIG.text_dim, seed=seed)


def prefill(model: AhaWam, z: Tensor, *times: int, past: list[tuple[int, VideoKv]] | None = None) -> VideoKv:
    memory = memory_rope = None
    if past:
        memory = LayerKv(
            torch.cat([kv.k_unrotated for _, kv in past], dim=2), torch.cat([kv.v for _, kv in past], dim=2)
        )
        memory_rope = concatenate([frames_rope(t) for t, _ in past])
    return stages.planner_prefill(
        model.video,
        z,
        text=stages.text_context(model.video, text()),
        modulations_L6D=model.video.clean_modulations(),
        rope=frames_rope(*times),
        memory=memory,
        memory_rope=memory_rope,
    )


def test_the_paper_preset_has_the_published_number_of_parameters_in_every_part() -> None:
    counts = parameter_counts(paper())
    assert counts == {
        "video": 4_999_787_712,
        "action": 1_020_900_366,
        "editor": 1_227_632_670,
        "query_encoder": 84_062_208,
        "visual_projection": 16_982_112,
        "proprio": 61_440,
        "branch_embedding": 2_048,
        "total": 7_349_428_556,
    }
    assert "editor" not in parameter_counts(fast_wam())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_height": 100}, "image_height=100 is not a positive multiple of 32"),
        ({"horizon_rows": 60}, "horizon_rows=60 is not a multiple of chunk_rows=16"),
        ({"action": replace(CONFIG.action, layers=2)}, "video.layers=3 but action.layers=2"),
        ({"video": replace(CONFIG.video, heads=4)}, "video.heads=4 but action.heads=2"),
        ({"memory_window": -1}, "memory_window=-1"),
    ],
)
def test_impossible_sizes_are_refused_with_both_numbers(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)


@pytest.mark.parametrize("name", ["paper", "tiny", "fast_wam"])
def test_a_preset_survives_its_plain_form(name: str) -> None:
    config = preset(name)
    assert AhaWamConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="unknown keys"):
        AhaWamConfig.from_dict({**config.to_dict(), "extra": 1})


@torch.inference_mode()
def test_the_video_dit_equals_the_diffusers_class_on_the_same_weights(model: AhaWam) -> None:
    from diffusers import WanTransformer3DModel

    c = CONFIG.video
    theirs = WanTransformer3DModel(
        patch_size=(1, CONFIG.patch, CONFIG.patch),
        num_attention_heads=c.heads,
        attention_head_dim=c.head_dim,
        in_channels=CONFIG.vae.z_dim,
        out_channels=CONFIG.vae.z_dim,
        text_dim=CONFIG.text_dim,
        freq_dim=c.freq_dim,
        ffn_dim=c.ffn,
        num_layers=c.layers,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        eps=c.eps,
        rope_max_seq_len=1024,
    ).eval()
    theirs.load_state_dict({dit_to_diffusers(n): t for n, t in model.video.state_dict().items()}, strict=True)
    z = normal(2, CONFIG.vae.z_dim, 3, CONFIG.latent_rows, CONFIG.latent_columns)
    words = normal(2, CONFIG.context_len, CONFIG.text_dim, seed=1)
    t = torch.tensor([[0.0] * CONFIG.frame_tokens + [700.0] * 2 * CONFIG.frame_tokens] * 2)
    want = theirs(hidden_states=z, timestep=t, encoder_hidden_states=words, return_dict=False)[0]
    have, _ = model.video(z, t, text=model.video.text_kv(words), rope=frames_rope(0, 1, 2), mask=None)
    torch.testing.assert_close(have, want, atol=2e-5, rtol=0)


@torch.inference_mode()
def test_one_frame_through_the_flat_vae_equals_diffusers_and_the_first_of_a_video() -> None:
    state = random_vae(CONFIG.vae, seed=2)
    vae = autoencoder(CONFIG.vae)
    missing, unexpected = vae.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(n.startswith(("decoder.", "post_quant_conv.")) for n in missing)
    video = normal(2, 3, 5, CONFIG.image_height, CONFIG.image_width).clamp(-1, 1)
    frame = collapse(state, CONFIG.vae)
    flat = frame(video[:, :, 0])
    torch.testing.assert_close(flat, encode_video(vae, video[:, :, :1], config=CONFIG.vae), atol=1e-5, rtol=0)
    whole = encode_video(vae, video, config=CONFIG.vae)
    assert whole.shape == (2, CONFIG.vae.z_dim, 2, CONFIG.latent_rows, CONFIG.latent_columns)
    torch.testing.assert_close(flat, whole[:, :, :1], atol=1e-5, rtol=0)
    assert decode_video(vae, whole, config=CONFIG.vae).shape == video.shape
    with pytest.raises(ValueError, match="4 k"):
        encode_video(vae, video[:, :, :4], config=CONFIG.vae)


def test_the_flat_vae_has_a_third_of_the_convolution_weights_at_full_size() -> None:
    from wam.policies.aha_wam.vae import FrameEncoder

    with torch.device("meta"):
        frame = FrameEncoder(paper().vae)
        whole = autoencoder(paper().vae)
    assert sum(p.numel() for p in whole.encoder.parameters()) == 149_627_776
    assert sum(p.numel() for p in frame.parameters()) < 0.4 * 149_627_776


def test_names_of_the_text_encoder_are_those_of_the_library_class() -> None:
    from transformers import UMT5Config, UMT5EncoderModel

    layers = 2
    with torch.device("meta"):
        theirs = UMT5EncoderModel(
            UMT5Config(vocab_size=10, d_model=8, d_kv=4, d_ff=8, num_layers=layers, num_heads=2)
        )
    original = ["token_embedding.weight", "norm.weight"]
    for i in range(layers):
        original += [f"blocks.{i}.norm{n}.weight" for n in (1, 2)]
        original += [f"blocks.{i}.attn.{n}.weight" for n in "qkvo"]
        original += [f"blocks.{i}.ffn.{n}.weight" for n in ("gate.0", "fc1", "fc2")]
        original.append(f"blocks.{i}.pos_embedding.embedding.weight")
    renamed = {text_to_transformers(n) for n in original}
    assert set(theirs.state_dict()) - {"encoder.embed_tokens.weight"} == renamed


@torch.inference_mode()
def test_a_prefill_with_memory_equals_one_causal_pass_over_all_frames(model: AhaWam) -> None:
    times = (0, 8, 16)
    z = latent(3, frames=3)
    past: list[tuple[int, VideoKv]] = []
    for i, time in enumerate(times):
        past.append((time, prefill(model, z[:, :, i : i + 1], time, past=list(past))))
    S = CONFIG.frame_tokens
    frame = torch.arange(3 * S) // S
    whole = model.video.prefill(
        z,
        text=model.video.text_kv(text()),
        modulations_L6D=model.video.clean_modulations(),
        rope=frames_rope(*times),
        mask=frame[:, None] >= frame[None],
    )
    for i, (_, kv) in enumerate(past):
        rows = slice(i * S, (i + 1) * S)
        torch.testing.assert_close(kv.k, whole.k[:, :, rows], atol=2e-6, rtol=0)
        torch.testing.assert_close(kv.v, whole.v[:, :, rows], atol=2e-6, rtol=0)


@torch.inference_mode()
def test_a_clean_training_pass_exports_the_k_v_of_a_prefill(model: AhaWam) -> None:
    z = latent(4)
    t = torch.zeros(1, CONFIG.frame_tokens)
    _, trained = model.video(z, t, text=model.video.text_kv(text()), rope=frames_rope(5), mask=None)
    exported = prefill(model, z, 5)
    torch.testing.assert_close(trained.k, exported.k, atol=2e-6, rtol=0)
    torch.testing.assert_close(trained.v, exported.v, atol=2e-6, rtol=0)


@torch.inference_mode()
def test_noisy_future_frames_do_not_reach_the_context_under_the_causal_mask(model: AhaWam) -> None:
    S = CONFIG.frame_tokens
    frame = torch.arange(2 * S) // S
    t = torch.cat((torch.zeros(1, S), torch.full((1, S), 600.0)), dim=1)
    z = latent(5, frames=2)
    changed = z.clone()
    changed[:, :, 1] += 1.0
    mask = frame[:, None] >= frame[None]
    words = model.video.text_kv(text())
    _, before = model.video(z, t, text=words, rope=frames_rope(0, 4), mask=mask)
    _, after = model.video(changed, t, text=words, rope=frames_rope(0, 4), mask=mask)
    assert torch.equal(before.k[:, :, :S], after.k[:, :, :S])
    assert not torch.equal(before.k[:, :, S:], after.k[:, :, S:])


@torch.inference_mode()
def test_padding_of_the_memory_that_is_masked_changes_nothing(model: AhaWam) -> None:
    """A backend with fixed shapes pads the memory to its full window."""
    past = [(0, prefill(model, latent(1), 0))]
    plain = prefill(model, latent(2), 8, past=past)
    kv, S, pad = past[0][1], CONFIG.frame_tokens, 2 * CONFIG.frame_tokens
    garbage = normal(CONFIG.video.layers, 1, pad, CONFIG.video.inner, seed=9)
    visible = torch.ones(pad + 2 * S, dtype=torch.bool)
    visible[:pad] = False
    padded = stages.planner_prefill(
        model.video,
        latent(2),
        text=stages.text_context(model.video, text()),
        modulations_L6D=model.video.clean_modulations(),
        rope=frames_rope(8),
        memory=LayerKv(torch.cat((garbage, kv.k_unrotated), 2), torch.cat((garbage, kv.v), 2)),
        memory_rope=frames_rope(0, 0, 0),
        mask=visible.view(1, 1, 1, -1),
    )
    torch.testing.assert_close(padded.k, plain.k, atol=2e-6, rtol=0)


@pytest.mark.parametrize("frames", [0, 1, CONFIG.memory_window])
@torch.inference_mode()
def test_the_padded_prefill_gives_what_the_prefill_gives_at_two_sets_of_shapes(
    model: AhaWam, frames: int
) -> None:
    S, inner = CONFIG.frame_tokens, CONFIG.video.inner
    kv = LayerKv(*(normal(CONFIG.video.layers, 1, frames * S, inner, seed=one) for one in (5, 6)))
    inputs = StageInputs.of(
        latent(2),
        stages.text_context(model.video, text()),
        model.video.clean_modulations(),
        frames_rope(8),
        kv if frames else None,
        frames_rope(*range(frames)) if frames else None,
    )
    padded = stages.padded_prefill(inputs, rows=CONFIG.memory_window * S)
    full = CONFIG.memory_window * S if frames else 0
    assert full in {one.shape[2] for one in padded.tensors if one.dim() == 4} | {0}
    want = stages.PrefillStage(model.video)(*inputs.arguments()[0])
    have = stages.PaddedPrefillStage(model.video)(*padded.arguments()[0])
    for one, other in zip(have, want, strict=True):
        torch.testing.assert_close(one, other, atol=5e-6, rtol=0)


def test_an_untrained_editor_is_the_exact_identity() -> None:
    editor = ContextEditor(layers=2, query_width=16, inner=24, heads=2)
    assert torch.sigmoid(editor.delta_gate).tolist() == pytest.approx([0.0179862] * 2, rel=1e-4)
    context = LayerKv(normal(2, 1, 6, 24), normal(2, 1, 6, 24, seed=1))
    routed = editor(normal(1, 32, 16), context)
    assert torch.equal(routed.k, context.k)
    assert torch.equal(routed.v, context.v)


@torch.inference_mode()
def test_the_order_of_the_observation_queries_does_not_matter(model: AhaWam) -> None:
    kv = prefill(model, latent(1), 0)
    context = LayerKv(kv.k, kv.v)
    queries = stages.observation_queries(model, latent(2))
    order = torch.randperm(CONFIG.queries, generator=torch.Generator().manual_seed(0))
    once, again = model.editor(queries, context), model.editor(queries[:, order], context)
    torch.testing.assert_close(once.k, again.k, atol=2e-6, rtol=0)
    assert (once.k - context.k).abs().max() > 1e-4


@torch.inference_mode()
def test_without_queries_routing_is_the_context_itself() -> None:
    naive = random_model(replace(CONFIG, queries=0), seed=1)
    context = LayerKv(normal(3, 1, 6, 64), normal(3, 1, 6, 64, seed=1))
    assert stages.route(naive, latent(1), context) is context


def velocity_inputs(model: AhaWam) -> dict[str, object]:
    kv = prefill(model, latent(1), 0)
    return {
        "context": stages.route(model, latent(2), LayerKv(kv.k, kv.v)),
        "text": stages.proprio_kv(
            model, normal(1, CONFIG.state_dim, seed=4), stages.text_context(model.action, text())
        ),
        "rope": rope_1d(torch.arange(CONFIG.chunk_rows), head_dim=CONFIG.action.head_dim),
    }


@torch.inference_mode()
def test_the_state_token_is_one_more_text_row(model: AhaWam) -> None:
    state = normal(1, CONFIG.state_dim, seed=4)
    rows = torch.cat((text(), stages.proprio_row(model, state)), dim=1)
    whole = model.action.text_kv(rows)
    parts = stages.proprio_kv(model, state, stages.text_context(model.action, text()))
    torch.testing.assert_close(parts.k, whole.k, atol=1e-6, rtol=0)
    torch.testing.assert_close(parts.v, whole.v, atol=1e-6, rtol=0)


@torch.inference_mode()
def test_chunks_computed_together_as_in_training_equal_chunks_computed_alone(model: AhaWam) -> None:
    """Training has one batch entry per chunk with a time of its own; deployment one chunk and one time."""
    chunks, R = 4, CONFIG.chunk_rows
    kv = prefill(model, latent(1), 0)
    x = normal(chunks, R, CONFIG.action_dim, seed=5)
    t = torch.tensor([1000.0, 800.0, 300.0, 20.0])
    z = torch.cat([latent(10 + c) for c in range(chunks)])
    states = normal(chunks, CONFIG.state_dim, seed=6)
    words = stages.text_context(model.action, text())
    spread = LayerKv(words.k.expand(-1, chunks, -1, -1), words.v.expand(-1, chunks, -1, -1))
    ropes = [rope_1d(torch.arange(R) + c * R, head_dim=CONFIG.action.head_dim) for c in range(chunks)]
    together = stages.denoise_step(
        model,
        x,
        modulations=model.action.modulations(t),
        context=stages.route(model, z, LayerKv(kv.k, kv.v)),
        text=stages.proprio_kv(model, states, spread),
        rope=Rope(torch.stack([r.cos for r in ropes]), torch.stack([r.sin for r in ropes])),
    )
    for c in range(chunks):
        alone = stages.denoise_step(
            model,
            x[c : c + 1],
            modulations=model.action.modulations(t[c]),
            context=stages.route(model, z[c : c + 1], LayerKv(kv.k, kv.v)),
            text=stages.proprio_kv(model, states[c : c + 1], words),
            rope=ropes[c],
        )
        torch.testing.assert_close(together[c : c + 1], alone, atol=2e-6, rtol=0)


@torch.inference_mode()
def test_denoising_never_writes_to_the_noise_or_to_the_context(model: AhaWam) -> None:
    inputs = velocity_inputs(model)
    noise = normal(1, CONFIG.chunk_rows, CONFIG.action_dim, seed=7)
    kept = noise.clone(), inputs["context"].k.clone(), inputs["text"].k.clone()
    plan = stages.schedule(model.action, sigma_grid(4, shift_factor=CONFIG.infer_shift))
    step = functools.partial(stages.denoise_step, model)
    first = stages.denoise(step, noise, plan=plan, **inputs)
    assert torch.equal(first, stages.denoise(step, noise, plan=plan, **inputs))
    assert torch.equal(noise, kept[0])
    assert torch.equal(inputs["context"].k, kept[1])
    assert torch.equal(inputs["text"].k, kept[2])


@torch.inference_mode()
def test_a_prepared_schedule_equals_modulations_made_at_every_step(model: AhaWam) -> None:
    plan = stages.schedule(model.action, sigma_grid(10, shift_factor=5.0))
    for i, sigma in enumerate(plan.sigmas[:-1]):
        torch.testing.assert_close(
            plan.modulations[i], model.action.modulations(torch.tensor(1000 * sigma)), atol=1e-5, rtol=0
        )


@torch.inference_mode()
def test_every_stage_exports_without_complex_numbers(model: AhaWam) -> None:
    """Complex rotations do not reach ONNX; a step has to be one graph of real tensors."""

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self,
            x: Tensor,
            mods: Tensor,
            k: Tensor,
            v: Tensor,
            tk: Tensor,
            tv: Tensor,
            cos: Tensor,
            sin: Tensor,
        ) -> Tensor:
            return stages.denoise_step(
                self.model,
                x,
                modulations=mods,
                context=LayerKv(k, v),
                text=LayerKv(tk, tv),
                rope=Rope(cos, sin),
            )

    inputs = velocity_inputs(model)
    x = normal(1, CONFIG.chunk_rows, CONFIG.action_dim, seed=7)
    mods = model.action.modulations(torch.tensor(500.0))
    args = (x, mods, *inputs["context"], *inputs["text"], *inputs["rope"])
    program = torch.export.export(Step(), args, strict=False)
    dtypes = {n.meta["val"].dtype for n in program.graph.nodes if isinstance(n.meta.get("val"), Tensor)}
    assert not [d for d in dtypes if d.is_complex]
    torch.testing.assert_close(program.module()(*args), Step()(*args), atol=1e-6, rtol=0)
