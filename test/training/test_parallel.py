# SPDX-License-Identifier: Apache-2.0
"""Two processes under torchrun (gloo, CPU) train what one process trains with two accumulated passes."""

from __future__ import annotations

import copy
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from wam.core.errors import ConfigError
from wam.policies.aha_wam.training.config import AhaWamTrainConfig
from wam.policies.aha_wam.training.recipe import DISTILL_RECIPE, RECIPE
from wam.training.config_reading import parse_config
from wam.training.options import Precision
from wam.training.parallel import World, gathered, pick_device, shard
from wam.training.reports import read_losses
from wam.training.runner import run_recipe

REPOSITORY = Path(__file__).parents[2]
TIMEOUT_S = 240


def changed(values: dict[str, Any], out: Path, **optim: Any) -> dict[str, Any]:
    copied = copy.deepcopy(values)
    copied["run"]["out"] = str(out)
    copied["optim"] |= optim
    return copied


def torchrun(runs: list[dict[str, Any]]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(port)]
    command += [str(Path(__file__).with_name("worker.py")), json.dumps(runs)]
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            _, errors = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            # torchrun's children outlive it when it is killed alone.
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, errors[-4000:]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_train_distil_and_resume_like_one(run_values: dict[str, Any], tmp_path: Path) -> None:
    """Batches, offsets and random numbers are numbered over all processes, so only rounding may differ."""
    values = copy.deepcopy(run_values)
    values["optim"] |= {"steps": 3, "learning_rate": 1e-3}
    one, two = tmp_path / "one", tmp_path / "two"
    run_recipe(RECIPE, parse_config(AhaWamTrainConfig, changed(values, one / "train", accumulate=2)))
    flash = copy.deepcopy(values)
    flash["model"] = {"bundle": str(one / "train" / "bundle")}
    flash["optim"] |= {"steps": 2, "accumulate": 2}
    run_recipe(DISTILL_RECIPE, parse_config(AhaWamTrainConfig, changed(flash, one / "flash")))
    torchrun(
        [
            {"kind": "train", "values": changed(values, two / "train"), "until": 2},
            {"kind": "train", "values": changed(values, two / "train"), "resume": True},
            {"kind": "distill", "values": changed(flash, two / "flash", accumulate=1)},
            {"kind": "train", "values": changed(values, two / "rough", precision="bfloat16", steps=1)},
            {"kind": "train", "values": changed(values, two / "moved"), "until": 2},
        ]
    )
    with pytest.raises(ConfigError, match="2 batches per step, this run has 1"):
        run_recipe(RECIPE, parse_config(AhaWamTrainConfig, changed(values, two / "moved")), resume=True)
    run_recipe(
        RECIPE, parse_config(AhaWamTrainConfig, changed(values, two / "moved", accumulate=2)), resume=True
    )
    moved = load_file(two / "moved" / "bundle" / "model.safetensors")
    for run in ("train", "flash"):
        mine, theirs = (load_file(d / run / "bundle" / "model.safetensors") for d in (one, two))
        assert mine.keys() == theirs.keys()
        for name in mine:
            torch.testing.assert_close(theirs[name], mine[name], atol=2e-5, rtol=1e-4)
            if run == "train":
                torch.testing.assert_close(moved[name], mine[name], atol=2e-5, rtol=1e-4)
        losses = [[r["loss_total"] for r in read_losses(d / run / "losses.csv")] for d in (one, two)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)
        norms = [[r["grad_norm"] for r in read_losses(d / run / "losses.csv")] for d in (one, two)]
        assert norms[1] == pytest.approx(norms[0], rel=1e-3)
    rough = read_losses(two / "rough" / "losses.csv")[0]["loss_total"]
    assert rough == pytest.approx(read_losses(one / "train" / "losses.csv")[0]["loss_total"], rel=0.05)


def test_a_checkpoint_holds_optimiser_state_by_name_and_in_full(
    run_values: dict[str, Any], tmp_path: Path
) -> None:
    config = parse_config(AhaWamTrainConfig, changed(run_values, tmp_path / "run", steps=2))
    run_recipe(RECIPE, config, until=1)
    folder = tmp_path / "run" / "checkpoints" / "step_00000001"
    state = torch.load(folder / "state.pt", weights_only=True)
    weights = load_file(folder / "model.safetensors")
    moments = state["optimiser"]["state"]
    assert {name for name in moments if moments[name]["exp_avg"].shape != weights[name].shape} == set()
    assert (state["step"], state["batches"]) == (1, 1)


def test_alone_nothing_is_sharded() -> None:
    module = nn.Linear(2, 2)
    shard(module, World(0, 1, torch.device("cpu")), precision=Precision.BFLOAT16)
    with gathered(module):
        assert type(module.weight) is nn.Parameter
        assert module.weight.dtype is torch.float32


def test_an_absent_gpu_is_an_error_when_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto").type == "cpu"
    with pytest.raises(ConfigError, match=r"run\.device"):
        pick_device("cuda")
