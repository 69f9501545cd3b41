# SPDX-License-Identifier: Apache-2.0
"""Shared layers against independent references."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wam.models.layers.attention import RmsNorm, attend
from wam.models.layers.dit_block import DitBlock, Modulation
from wam.models.layers.embeddings import timestep_embedding
from wam.models.layers.flow import (
    integrate,
    interpolate,
    loss_weight,
    predict_x0,
    shift,
    sigma_grid,
    velocity_target,
)
from wam.models.layers.rope import concatenate, rope_1d, rope_3d, rotate, split_3d


def complex_rope(x: torch.Tensor, angle: torch.Tensor, heads: int) -> torch.Tensor:
    """Reference: adjacent pairs as complex numbers in float64."""
    pairs = torch.view_as_complex(x.double().unflatten(-1, (heads, -1, 2)))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)[:, None]).flatten(-3).float()


def test_rotation_in_real_arithmetic_equals_complex_multiplication() -> None:
    torch.manual_seed(0)
    heads, dim, positions = 3, 16, torch.tensor([0, 5, 1023, 70_000])
    x = torch.randn(2, 4, heads * dim)
    frequency = 10_000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    want = complex_rope(x, positions.double()[:, None] * frequency, heads)
    torch.testing.assert_close(
        rotate(x, rope_1d(positions, head_dim=dim), heads=heads), want, atol=2e-6, rtol=0
    )


def test_attention_scores_depend_on_the_distance_of_positions_alone() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 32), torch.randn(1, 1, 32)

    def score(at_q: int, at_k: int) -> torch.Tensor:
        turned_q = rotate(q, rope_1d(torch.tensor([at_q]), head_dim=32), heads=1)
        turned_k = rotate(k, rope_1d(torch.tensor([at_k]), head_dim=32), heads=1)
        return (turned_q * turned_k).sum()

    torch.testing.assert_close(score(3, 1), score(803, 801), atol=1e-5, rtol=0)
    assert (score(3, 1) - score(3, 2)).abs() > 1e-3


def test_a_frame_turns_with_time_row_and_column_on_separate_channels() -> None:
    dim = 32
    parts = [n // 2 for n in split_3d(dim)]
    assert split_3d(128) == (44, 42, 42)
    angle = torch.atan2(
        *(
            t[:, 0].double()
            for t in reversed(_halves(rope_3d(torch.tensor([7]), rows=2, columns=3, head_dim=dim)))
        )
    )
    time, row, column = angle.split(parts, dim=1)
    assert torch.allclose(time, time[:1].expand_as(time), atol=1e-6)
    assert row[:, 0].tolist() == pytest.approx([0, 0, 0, 1, 1, 1], abs=1e-6)
    assert column[:, 0].tolist() == pytest.approx([0, 1, 2, 0, 1, 2], abs=1e-6)


def _halves(rope):
    return rope.cos[..., ::2], rope.sin[..., 1::2]


def test_rotations_of_frames_join_in_order() -> None:
    both = rope_3d(torch.tensor([2, 9]), rows=2, columns=2, head_dim=32)
    parts = [rope_3d(torch.tensor([t]), rows=2, columns=2, head_dim=32) for t in (2, 9)]
    assert torch.equal(concatenate(parts).cos, both.cos)
    assert torch.equal(concatenate(parts).sin, both.sin)


def test_attention_equals_a_softmax_written_out() -> None:
    torch.manual_seed(0)
    heads, q, k, v = 2, torch.randn(1, 3, 8), torch.randn(1, 5, 8), torch.randn(1, 5, 8)
    mask = torch.rand(3, 5) > 0.3
    out = []
    for h in range(heads):
        part = slice(4 * h, 4 * h + 4)
        scores = (q[..., part] @ k[..., part].transpose(1, 2)) / 2.0
        out.append(scores.masked_fill(~mask, -math.inf).softmax(-1) @ v[..., part])
    torch.testing.assert_close(attend(q, k, v, heads=heads, mask=mask), torch.cat(out, -1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_is_taken_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm = RmsNorm(64, eps=1e-6)
    norm.weight.data.normal_()
    x = (torch.randn(3, 64) * 100).to(dtype)
    exact = x.double() / (x.double().pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
    want = exact.to(dtype) * norm.weight.to(dtype)
    torch.testing.assert_close(
        norm.to(dtype)(x), want, atol=1e-6 if dtype is torch.float32 else 3e-2, rtol=1e-2
    )


def test_the_time_embedding_has_cosines_first() -> None:
    e = timestep_embedding(torch.tensor([0.0, 10.0]), dim=8, dtype=torch.float64)
    assert e[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    frequency = [1.0, 0.1, 0.01, 0.001]
    assert e[1].tolist() == pytest.approx(
        [math.cos(10 * f) for f in frequency] + [math.sin(10 * f) for f in frequency]
    )


def test_a_block_is_the_formula_of_the_paper_written_out() -> None:
    torch.manual_seed(0)
    width, heads = 16, 2
    block = DitBlock(width=width, inner=24, ffn=32, heads=heads, eps=1e-6)
    block.norm3.weight.data.normal_()
    x, text, t_mod = torch.randn(1, 5, width), torch.randn(1, 3, width), torch.randn(6, width)
    rope = rope_1d(torch.arange(5), head_dim=12)
    mods = block.modulations(t_mod)
    mod = Modulation(*mods.unbind(0))
    qkv = block.before_attention(x, mod, rope)
    attended = attend(qkv.q, qkv.k, qkv.v, heads=heads)
    k, v = block.cross_attn.keys_values(text)
    have = block.after_attention(x, attended, mod, text_k=k, text_v=v)

    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = (block.modulation[0] + t_mod).unbind(0)
    norm = torch.nn.functional.layer_norm
    y = norm(x, (width,), eps=1e-6) * (1 + scale_a) + shift_a
    a = block.self_attn
    q = rotate(a.norm_q(a.q(y)), rope, heads=heads)
    key = rotate(a.norm_k(a.k(y)), rope, heads=heads)
    want = x + gate_a * a.o(attend(q, key, a.v(y), heads=heads))
    c = block.cross_attn
    want = want + c.o(attend(c.norm_q(c.q(block.norm3(want))), c.norm_k(c.k(text)), c.v(text), heads=heads))
    want = want + gate_m * block.ffn(norm(want, (width,), eps=1e-6) * (1 + scale_m) + shift_m)
    torch.testing.assert_close(have, want, atol=1e-5, rtol=0)


def test_the_noise_grid_starts_at_noise_ends_at_data_and_falls() -> None:
    for steps in range(1, 20):
        grid = sigma_grid(steps, shift_factor=5.0)
        assert grid[0] == 1.0
        assert grid[-1] == 0.0
        assert all(b < a for a, b in itertools.pairwise(grid))
    with pytest.raises(ValueError, match="at least 1"):
        sigma_grid(0, shift_factor=5.0)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_sixteen_step_grid_contains_the_short_grids(steps: int) -> None:
    fine = sigma_grid(16, shift_factor=5.0)
    assert [fine[i * 16 // steps] for i in range(steps + 1)] == pytest.approx(
        sigma_grid(steps, shift_factor=5.0), abs=0
    )


@given(u=st.floats(0, 1), factor=st.floats(0.5, 20))
@settings(max_examples=50)
def test_the_shift_keeps_the_ends_and_can_be_undone(u: float, factor: float) -> None:
    s = shift(u, factor)
    assert 0 <= s <= 1
    assert shift(s, 1 / factor) == pytest.approx(u, abs=1e-9)


def test_a_constant_field_is_integrated_exactly_in_any_number_of_steps() -> None:
    eps, x0 = torch.randn(2, 3), torch.randn(2, 3)
    for steps in (1, 2, 10):
        sigmas = sigma_grid(steps, shift_factor=5.0)
        out = integrate(lambda x, i: velocity_target(x0, eps), eps, sigmas=sigmas)
        torch.testing.assert_close(out, x0, atol=1e-6, rtol=0)


def test_integration_never_writes_to_its_start_and_keeps_float32() -> None:
    noise = torch.randn(4, dtype=torch.bfloat16)
    copy = noise.clone()
    out = integrate(lambda x, i: x.bfloat16(), noise, sigmas=sigma_grid(3, shift_factor=5.0))
    assert torch.equal(noise, copy)
    assert out.dtype is torch.float32


def test_the_euler_error_falls_with_the_first_power_of_the_step() -> None:
    def error(steps: int) -> float:
        sigmas = sigma_grid(steps, shift_factor=1.0)
        out = integrate(lambda x, i: x, torch.ones(1, dtype=torch.float64), sigmas=sigmas)
        return abs(float(out) - math.exp(-1))

    assert error(50) / error(100) == pytest.approx(2.0, rel=0.05)


def test_the_path_and_the_prediction_of_its_end_fit_together() -> None:
    x0, eps = torch.randn(3), torch.randn(3)
    for sigma in (0.0, 0.3, 1.0):
        x = interpolate(x0, eps, torch.tensor(sigma))
        torch.testing.assert_close(
            predict_x0(x, velocity_target(x0, eps), torch.tensor(sigma)), x0, atol=1e-6, rtol=0
        )


def test_the_loss_weight_is_zero_at_the_ends_and_one_on_average() -> None:
    u = torch.linspace(1, 0, 1001, dtype=torch.float64)[:-1]
    for factor in (1.0, 5.0):
        t = 1000 * torch.as_tensor(shift(u, factor))
        assert float(loss_weight(t, shift_factor=factor).mean()) == pytest.approx(1.0)
    assert loss_weight(torch.tensor([0.0, 1000.0])).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
