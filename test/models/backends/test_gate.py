# SPDX-License-Identifier: Apache-2.0
"""The gate takes what computes the same, and refuses what ignores, permutes or bakes in."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from wam.models.backends.gate import StageVerdict, judge_stage


class Kv(NamedTuple):
    k: Tensor
    v: Tensor


def stage(x: Tensor, *, memory: Kv, scale: Tensor, mask: Tensor, rows: int = 3) -> Kv:
    """Attend to every layer of the memory; shapes: x [B, R, D], memory [L, B, S, D], scale [D], mask [1, S]."""
    query = (x * scale).expand_as(memory.k[:, :, :rows])
    out = scaled_dot_product_attention(query, memory.k, memory.v, attn_mask=mask)
    return Kv(out, x + 0.01 * out.mean(dim=0))


def inputs(dtype: torch.dtype = torch.float32, *, zeros: bool = False) -> dict[str, object]:
    generator = torch.Generator().manual_seed(3)

    def make(*shape: int) -> Tensor:
        return (torch.zeros(shape) if zeros else torch.randn(shape, generator=generator)).to(dtype)

    mask = torch.tensor([True, True, True, False, True])
    return {"memory": Kv(make(4, 1, 5, 16), make(4, 1, 5, 16)), "scale": make(16), "mask": mask[None]}


def x_of(dtype: torch.dtype = torch.float32, *, zeros: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return (torch.zeros(1, 3, 16) if zeros else torch.randn(1, 3, 16, generator=generator)).to(dtype)


def judged(candidate: object, *, zeros: bool = False, dtype: torch.dtype = torch.float32) -> StageVerdict:
    assert callable(candidate)
    return judge_stage("attend", stage, candidate, (x_of(dtype, zeros=zeros),), inputs(dtype, zeros=zeros))


def test_a_stage_passes_against_itself_and_every_tensor_of_numbers_is_judged_alone() -> None:
    verdict = judged(stage)
    assert (verdict.passed, verdict.worst.difference, verdict.unseen) == (True, 0.0, ())
    assert {one.case for one in verdict.comparisons} >= {f"input {i} alone changed" for i in range(4)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_computation_in_another_order_passes(dtype: torch.dtype) -> None:
    def reordered(x: Tensor, *, memory: Kv, scale: Tensor, mask: Tensor) -> Kv:
        order = torch.tensor([4, 2, 0, 1, 3])
        return stage(
            x, memory=Kv(memory.k[:, :, order], memory.v[:, :, order]), scale=scale, mask=mask[:, order]
        )

    assert judged(reordered, dtype=dtype).passed


def ignores_the_scale(x: Tensor, *, memory: Kv, scale: Tensor, mask: Tensor) -> Kv:
    return stage(x, memory=memory, scale=torch.ones_like(scale), mask=mask)


def ignores_the_mask(x: Tensor, *, memory: Kv, scale: Tensor, mask: Tensor) -> Kv:
    return stage(x, memory=memory, scale=scale, mask=torch.ones_like(mask))


def permutes_the_layers(x: Tensor, *, memory: Kv, scale: Tensor, mask: Tensor) -> Kv:
    out = stage(x, memory=memory, scale=scale, mask=mask)
    return Kv(out.k[[1, 0, 2, 3]], out.v)


def bakes_in_the_last_key(x: Tensor, *, memory: Kv, scale: Tensor, mask: Tensor) -> Kv:
    recorded = inputs()["memory"]
    assert isinstance(recorded, Kv)
    keys = torch.cat((memory.k[:, :, :-1], recorded.k[:, :, -1:].to(memory.k.dtype)), dim=2)
    return stage(x, memory=Kv(keys, memory.v), scale=scale, mask=mask)


def misplaces_a_factor(x: Tensor, *, memory: Kv, scale: Tensor, mask: Tensor) -> Kv:
    return stage(x * math.sqrt(1.01), memory=memory, scale=scale, mask=mask)


def gives_no_number(x: Tensor, *, memory: Kv, scale: Tensor, mask: Tensor) -> Kv:
    out = stage(x, memory=memory, scale=scale, mask=mask)
    return Kv(out.k, out.v * float("nan"))


@pytest.mark.parametrize("zeros", [False, True], ids=["recorded", "recorded as zeros"])
@pytest.mark.parametrize(
    "wrong",
    [
        ignores_the_scale,
        ignores_the_mask,
        permutes_the_layers,
        bakes_in_the_last_key,
        misplaces_a_factor,
        gives_no_number,
    ],
)
def test_a_backend_that_computes_something_else_is_refused(wrong: object, zeros: bool) -> None:
    """With warm-up inputs of zeros, all of these but the last give what the eager stage gives."""
    assert not judged(wrong, zeros=zeros).passed


@pytest.mark.parametrize("wrong", [ignores_the_scale, permutes_the_layers, bakes_in_the_last_key])
def test_what_bfloat16_rounds_away_does_not_hide_a_wrong_backend(wrong: object) -> None:
    assert not judged(wrong, dtype=torch.bfloat16).passed


def test_an_input_of_little_influence_that_is_ignored_is_found_by_changing_it_alone() -> None:
    def little(x: Tensor, y: Tensor) -> Tensor:
        return 100.0 * x + 0.001 * y

    def ignoring(x: Tensor, y: Tensor) -> Tensor:
        return 100.0 * x

    args = (torch.ones(64), torch.ones(64))
    assert judge_stage("little", little, little, args, {}).passed
    verdict = judge_stage("little", little, ignoring, args, {})
    assert [one.case for one in verdict.comparisons if not one.passed] == ["input 1 alone changed"]


def test_an_input_without_influence_is_named_as_not_judged() -> None:
    def blind(x: Tensor, y: Tensor) -> Tensor:
        return x.clone()

    verdict = judge_stage("blind", blind, blind, (torch.ones(4), torch.ones(4)), {})
    assert (verdict.passed, verdict.unseen) == (True, (1,))


def test_token_ids_are_varied_among_themselves_and_one_that_became_a_constant_is_refused() -> None:
    """Only numbers with a fraction were varied: a decoder with its prompt baked in passed."""
    table = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    recorded = torch.tensor([3, 41, 7, 3, 0, 12])

    def look_up(ids: Tensor, factor: Tensor) -> Tensor:
        assert sorted(ids.tolist()) == sorted(recorded.tolist())
        return table[ids] * factor

    def baked(ids: Tensor, factor: Tensor) -> Tensor:
        return table[recorded] * factor

    given = (recorded, torch.ones(8))
    verdict = judge_stage("look_up", look_up, look_up, given, {})
    assert (verdict.passed, verdict.unseen) == (True, ())
    assert not judge_stage("look_up", look_up, baked, given, {}).passed
