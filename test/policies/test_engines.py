# SPDX-License-Identifier: Apache-2.0
"""A policy's engines from bundle to running stage: export and build in child processes, load, judge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from host_gpu import HostGpu, forget_tensorrt, install_fake_tensorrt

from wam.core.errors import BundleError
from wam.models.backends.choice import choose_plan
from wam.models.backends.plan import BackendPlan
from wam.models.backends.tensorrt import TensorRt
from wam.models.bundle import Bundle
from wam.policies.bundles import load_policy, make_tiny_bundle
from wam.policies.engines import BuildOptions, build_engines, compiled, engine_store

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (requirements/model.txt)")
pytest.importorskip("onnx", reason="onnx is not installed (requirements/export.txt)")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (requirements/export.txt)")

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    install_fake_tensorrt(monkeypatch)
    yield
    forget_tensorrt()


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_tiny_bundle(tmp_path / "bundle", "aha_wam")


@pytest.mark.slow
def test_a_stage_is_built_from_the_bundle_and_runs_on_its_engine(bundle: Bundle, tmp_path: Path) -> None:
    gpu, said = HostGpu(), list[str]()
    made = build_engines(
        bundle,
        cache=tmp_path,
        gpu=gpu,
        options=BuildOptions(stages=("proprio_kv",)),
        told=said.append,
    )
    assert (list(made.built), dict(made.failed), dict(made.skipped)) == (["proprio_kv.0"], {}, {})
    assert said == ["exporting the stages in float32", "building proprio_kv.0"]
    assert not list((tmp_path / "engines").glob(".build-*"))
    plan = BackendPlan((TensorRt(lambda: engine_store(bundle, cache=tmp_path, gpu=gpu), gpu=gpu),))
    load_policy(bundle.directory, backend=plan)
    runs = {one.stage: one for one in plan.stages}
    assert str(runs["proprio_kv"]) == "tensorrt"
    assert "it has no engine; build it on this machine: wam build-engine POLICY" in runs["denoise"].reason
    assert all(verdict.passed for verdict in plan.verdicts)


@pytest.mark.slow
def test_a_stage_that_the_policy_does_not_have_is_refused_with_those_that_it_has(
    bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=r"no such stage.*denoize"):
        build_engines(bundle, cache=tmp_path, gpu=HostGpu(), options=BuildOptions(stages=("denoize",)))


def test_a_gpu_that_does_not_fit_is_refused_before_anything_is_exported(
    bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="does not compute in bfloat16"):
        build_engines(
            bundle, cache=tmp_path, gpu=HostGpu(capability=(7, 5)), options=BuildOptions(precision="bf16")
        )
    with pytest.raises(BundleError, match="too old for TensorRT"):
        build_engines(bundle, cache=tmp_path, gpu=HostGpu(capability=(6, 1)))
    assert not (tmp_path / "engines").exists()


def test_a_cpu_has_no_engines_and_says_what_they_need(bundle: Bundle, tmp_path: Path) -> None:
    assert compiled(bundle, cache=tmp_path, device="cpu") is None
    with pytest.raises(BundleError, match="needs a CUDA device"):
        choose_plan("tensorrt", device=torch.device("cpu"))
