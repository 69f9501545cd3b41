# SPDX-License-Identifier: Apache-2.0
"""The memory of weights: arithmetic, and the page that quotes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from wam.bench.gpu_memory import PRESETS, rows, table
from wam.policies.registry import policy_kind

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/gpu.md"


def test_a_weight_takes_two_bytes_in_bfloat16_and_four_in_float32() -> None:
    found = {row.precision: row.gib for row in rows({"x/y": 2**30})}
    assert found == {"bfloat16": 2.0, "float32": 4.0}


def test_the_table_has_a_line_for_each_network_and_precision() -> None:
    text = table(rows({"aha_wam/paper": 7_349_428_556}))
    assert "| `aha_wam/paper` | 7.35 e9 | bfloat16 | 13.7 GiB |" in text


@pytest.mark.parametrize("preset", [name for name in PRESETS if not name.startswith("ud_vla")])
def test_the_page_quotes_what_the_configurations_give(preset: str) -> None:
    """UD-VLA is left out: the page counts its image tokenizer in float32, as it is loaded."""
    kind, _, name = preset.partition("/")
    owner = policy_kind(kind)
    total = owner.count_parameters(owner.load_presets()[name]())["total"]
    line = next(line for line in PAGE.read_text(encoding="utf-8").splitlines() if f"`{preset}`" in line)
    for row in rows({preset: total}):
        assert f"{row.gib:.1f} GiB" in line
