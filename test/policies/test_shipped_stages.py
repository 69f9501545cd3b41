# SPDX-License-Identifier: Apache-2.0
"""Policies that ship with exported stages run them: on a CPU a chunk then takes a fraction of its time."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="needs onnxruntime (requirements/model.txt)")

from wam.models.backends.backend import EAGER_NAME, HOST_NAME, ONNX_RUNTIME_NAME
from wam.policies.bundles import load_policy
from wam.policies.shipped import SHIPPED_DIR

EXPORTED = sorted({path.parent for path in SHIPPED_DIR.rglob("*.onnx")})


def test_the_policies_that_see_ship_with_their_stages() -> None:
    assert {folder.parent.name for folder in EXPORTED} == {"aha_wam", "dust"}


@pytest.mark.parametrize("folder", EXPORTED, ids=lambda folder: folder.name)
def test_every_stage_of_a_shipped_policy_runs_in_onnx_runtime_where_nothing_was_exported(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs that belong to another version of torch, or to other weights, would leave the stages eager unnoticed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    stages = load_policy(folder, threads=1).stages
    eager = {one.stage: one.reason for one in stages if one.backend == EAGER_NAME}
    assert eager.keys() == {"schedule"}, eager
    assert {one.backend for one in stages} == {ONNX_RUNTIME_NAME, HOST_NAME, EAGER_NAME}
