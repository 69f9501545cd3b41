# SPDX-License-Identifier: Apache-2.0
"""The kernels compute what the modules compute: in Triton's interpreter, at tiny sizes."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.timeout(900)
"""Seconds of the clock: a loaded machine gives a process that interprets or compiles little of its time."""

FLOAT32 = 2e-6
"""Greatest difference over the greatest value; sums of some thousand float32 numbers in another order."""


@pytest.mark.parametrize("rows", [16, 40])
def test_a_dit_layer_is_the_modules_in_float32_and_as_exact_as_it_in_bfloat16(
    measure: Any, rows: int
) -> None:
    """16 rows are a chunk; 40 take the path of many rows and leave the last tile of every kind unfilled."""
    error = measure("dit", rows=rows)
    assert error["float32"] <= FLOAT32
    assert error["bfloat16"] <= 1.5 * error["bfloat16_eager"] + 1e-3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_dit_layer_of_the_released_width_is_the_modules(measure: Any) -> None:
    assert measure("dit_float32", rows=16, width=1024, columns=64, context=120, text=129) <= FLOAT32


def test_a_dit_layer_is_eight_launches_and_three_more_with_many_rows(measure: Any) -> None:
    few, many = measure("dit_launches", rows=16), measure("dit_launches", rows=40)
    assert few == [
        *("norm_project_kernel", "attention_kernel", "project_residual_kernel"),
        *("norm_project_kernel", "attention_kernel", "project_residual_kernel"),
        *("norm_project_kernel", "project_residual_kernel"),
    ]
    assert [name for name in many if name != "row_statistics_kernel"] == few
    assert len(many) == 11


@pytest.fixture(scope="module")
def moved(measure: Any) -> dict[str, float]:
    """How far the result of a layer moves when one of its inputs changes."""
    moved: dict[str, float] = measure("dit_changes")
    return moved


@pytest.mark.parametrize("rows", ["permuted context", "permuted text"])
def test_the_order_of_keys_and_values_does_not_matter(moved: dict[str, float], rows: str) -> None:
    assert moved[rows] <= FLOAT32


@pytest.mark.parametrize("changed", ["last context row", "proprioceptive row", "rotation"])
def test_a_change_at_the_end_of_an_input_is_seen(moved: dict[str, float], changed: str) -> None:
    """A block of keys that stops one short, or a table compiled in, still has a cosine of 0.999."""
    assert moved[changed] >= 1e-3


@pytest.mark.parametrize(
    "claim", ["right", "twice", "opposite arrival", "counters are zero again", "order matters here"]
)
def test_a_shared_sum_is_the_same_bit_for_bit(fixed: dict[str, bool], claim: str) -> None:
    """Whatever program of a tile comes last adds the parts up from the first; `order matters here` is the control."""
    assert fixed[claim]


@pytest.fixture(scope="module")
def fixed(measure: Any) -> dict[str, bool]:
    fixed: dict[str, bool] = measure("fixed_order", split=8)
    return fixed


def test_a_running_softmax_survives_a_first_block_without_a_visible_key(measure: Any) -> None:
    """The maximum of such a block is minus infinity, and minus infinity less itself is no number."""
    result = measure("hidden_keys")
    assert result["difference"] <= FLOAT32
    assert result["blind row"] == 0.0


def test_a_chunk_denoised_by_the_kernels_is_the_action_dits(measure: Any) -> None:
    """The control: the chunk is far from the noise it started as."""
    result = measure("action", steps=2)
    assert result["difference"] <= FLOAT32
    assert result["moved"] >= 0.1


@pytest.mark.parametrize(("memory", "hidden"), [(0, 0), (100, 70)])
def test_a_prefill_by_the_kernels_is_the_video_dits(measure: Any, memory: int, hidden: int) -> None:
    """With a memory: its keys are rotated as they are read, and its unused rows are hidden."""
    error = measure("prefill", memory=memory, hidden=hidden)
    assert max(error.values()) <= FLOAT32


@pytest.mark.parametrize(
    ("style", "kind"), [("sd3", "joint"), ("n1", "self"), ("sd3", "features"), ("sd3", "extra")]
)
def test_a_half_of_a_dust_block_by_the_kernels_is_the_modules(measure: Any, style: str, kind: str) -> None:
    """Heads are 12 wide here and 48 wide in the released size: neither is a power of two."""
    assert measure("stream", style=style, kind=kind) <= FLOAT32


def test_a_decoder_layer_of_ud_vla_by_the_kernels_is_the_librarys(measure: Any) -> None:
    """Grouped heads, halves rotated, a kept prefix of its own layout, a mask per row."""
    assert measure("gated", rows=40, prefix=70) <= FLOAT32
