# SPDX-License-Identifier: Apache-2.0
"""`wam check-backend` tells what the gate finds, and refuses what is not there."""

from __future__ import annotations

import json

import pytest

from wam.cli.main import run


def test_a_policy_whose_stages_run_as_they_are_written_has_nothing_to_compare(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["check-backend", "aha_wam/random", "--device", "cpu", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["backend"], result["stages"], result["passed"]) == ("eager", [], True)


def test_a_backend_that_this_device_cannot_run_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["check-backend", "aha_wam/random", "--device", "cpu", "--backend", "cuda_graph"]) == 1
    assert "needs a CUDA device" in capsys.readouterr().err
