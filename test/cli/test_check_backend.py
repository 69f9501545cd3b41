# SPDX-License-Identifier: Apache-2.0
"""`wam check-backend` tells what the gate finds, and refuses what is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wam.cli.main import run


def test_a_policy_whose_stages_run_as_they_are_written_has_nothing_to_compare(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert run(["check-backend", "aha_wam/random", "--device", "cpu", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["stages"], result["passed"]) == ([], True)
    runs_on = result["runs_on"]
    assert runs_on.pop("image_preparation")["backend"] == "host"
    assert {one["backend"] for one in runs_on.values()} == {"eager"}
    assert runs_on.pop("schedule")["reason"] == "computed once, while the policy is loaded"
    assert runs_on
    assert all("not onnxruntime: " in one["reason"] for one in runs_on.values())


def test_a_backend_that_this_device_cannot_run_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["check-backend", "aha_wam/random", "--device", "cpu", "--backend", "cuda_graph"]) == 1
    assert "needs a CUDA device" in capsys.readouterr().err
