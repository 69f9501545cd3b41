# SPDX-License-Identifier: Apache-2.0
"""F: action tokens. The published vocabularies are no part of the packs; WAM_FAST_DIR names a folder of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from wam.models.normalisation import FieldStats, Normaliser, NormMode
from wam.policies.ud_vla.fast import FastTokenizer, coefficients, rows_of

pytestmark = pytest.mark.parity


def test_coefficients_are_the_authors_and_the_way_back_too(golden, vocabulary):
    name = vocabulary
    scale = golden.info["F"][name]["scale"]
    for rows, wanted, decoded in zip(
        *(golden.io[f"F.{name}.{part}"].numpy() for part in ("actions", "quantised", "decoded")), strict=True
    ):
        assert np.array_equal(coefficients(rows, scale), wanted)
        assert np.allclose(rows_of(wanted, scale), decoded, atol=1e-12)


def test_published_vocabularies_give_the_authors_tokens(golden, vocabulary):
    name = vocabulary
    directory = Path(os.environ.get("WAM_FAST_DIR", "/nonexistent")) / name
    if not directory.is_dir():
        pytest.skip("no published FAST vocabularies: WAM_FAST_DIR is not set")
    fast = FastTokenizer.from_released(directory)
    actions = golden.io[f"F.{name}.actions"].numpy()
    for rows, padded, decoded in zip(
        actions,
        golden.io[f"F.{name}.tokens_padded"].tolist(),
        golden.io[f"F.{name}.decoded"].numpy(),
        strict=True,
    ):
        tokens = fast.encode(rows)
        assert tokens == [t for t in padded if t >= 0]
        chunk = fast.decode(tokens, rows=rows.shape[0], dims=rows.shape[1])
        assert chunk.valid
        assert np.allclose(chunk.rows, np.clip(decoded, -1, 1), atol=1e-12)
    for case, value in golden.info["F"][name]["cases"].items():
        chunk = fast.decode(value["tokens"], rows=actions.shape[1], dims=actions.shape[2])
        assert not chunk.valid or case == "overlong"
        assert np.abs(chunk.rows).max() <= 1.0
    bad = golden.info["F"][name]["example_bad_id"]
    assert np.abs(fast.decode([bad] * 20, rows=actions.shape[1], dims=actions.shape[2]).rows).max() <= 1.0


def test_quantile_normalisation_is_the_authors(golden):
    io = golden.io
    low, high = io["F.norm.q01"].numpy(), io["F.norm.q99"].numpy()
    stats = FieldStats({"mean": low, "std": high - low, "q01": low, "q99": high})
    norm = Normaliser(stats, mode=NormMode.QUANTILE, clamp=None)
    assert np.allclose(
        norm.to_si(io["F.norm.normalised"].numpy()), io["F.norm.unnormalised"].numpy(), atol=1e-9
    )
