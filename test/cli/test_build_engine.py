# SPDX-License-Identifier: Apache-2.0
"""`wam export` and `wam build-engine` refuse what cannot work in one line, before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wam.cli.main import run


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_machine_without_a_gpu_builds_nothing(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    assert run(["build-engine", "aha_wam/random"]) == 1
    assert "the device is absent" in capsys.readouterr().err
    assert not (cache / "wam" / "engines").exists()


def test_a_precision_and_a_device_that_there_are_not_are_named_with_what_there_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["build-engine", "aha_wam/random", "--precision", "int8"]) == 1
    assert "fp32, bf16, fp16" in capsys.readouterr().err
    assert run(["build-engine", "aha_wam/random", "--device", "cpu"]) == 1
    assert "cuda:0" in capsys.readouterr().err


def test_a_kind_without_exported_stages_is_refused_by_export(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "state/random"]) == 1
    assert "have no backend onnxruntime" in capsys.readouterr().err
