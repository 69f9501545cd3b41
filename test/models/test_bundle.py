# SPDX-License-Identifier: Apache-2.0
"""Policy bundles: hash, exact match, damage found from headers, shard-by-shard loading."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from wam.core.errors import BundleError
from wam.models.bundle import Manifest, load_into, open_bundle, open_weights, save_weights
from wam.models.robot_layout import RobotLayout
from wam.policies.bundles import load_policy, make_tiny_bundle, open_policy


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "b", "aha_wam").directory


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "b"))


def edit_yaml(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        path = directory / "policy.yaml"
        raw = yaml.safe_load(path.read_text())
        change(raw)
        path.write_text(yaml.safe_dump(raw))

    return apply


def edit_stats(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        path = directory / "stats.json"
        raw = json.loads(path.read_text())
        change(raw)
        path.write_text(json.dumps(raw))

    return apply


def edit_weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        path = directory / "model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return apply


def truncated(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def garbage(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(b"\xff" * 1000)


def nan_weight(tensors: dict[str, torch.Tensor]) -> None:
    tensors["action.blocks.1.self_attn.k.weight"][0, 0] = float("nan")


def drop_vae(tensors: dict[str, torch.Tensor]) -> None:
    for name in [n for n in tensors if n.startswith("vae.")]:
        del tensors[name]


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "no manifest": (lambda d: (d / "policy.yaml").unlink(), "policy.yaml is missing"),
    "a task that is no name": (edit_yaml(lambda r: r.update(task=3)), "task: got 3"),
    "rows to execute that are no number": (
        edit_yaml(lambda r: r.update(execute_rows="3")),
        "execute_rows: got '3'",
    ),
    "more rows to execute than a chunk has": (
        edit_yaml(lambda r: r.update(execute_rows=10**6)),
        "execute_rows is 1000000, must be in 0..chunk_rows",
    ),
    "data of unknown origin": (edit_yaml(lambda r: r.update(trained_on={"place": "here"})), "place"),
    "one seed of a range": (edit_yaml(lambda r: r.update(trained_on={"seeds": [3]})), "seeds must be"),
    "no statistics": (lambda d: (d / "stats.json").unlink(), "stats.json is missing"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "model.safetensors is missing"),
    "truncated weights": (truncated, "truncated"),
    "weights that are none": (garbage, "no safetensors file"),
    "manifest of another format": (edit_yaml(lambda r: r.update(format=7)), "format"),
    "unknown key": (edit_yaml(lambda r: r.update(extra=1)), r"unknown keys \['extra'\]"),
    "missing key": (edit_yaml(lambda r: r.pop("cameras")), r"missing keys \['cameras'\]"),
    "unknown kind": (edit_yaml(lambda r: r.update(kind="pi0")), "kind"),
    "unknown normalisation": (edit_yaml(lambda r: r.update(state_norm="l2")), "l2"),
    "another precision": (edit_yaml(lambda r: r.update(dtype="bfloat16")), "stored as F32"),
    "another action width": (
        edit_yaml(lambda r: r.update(action_joints=r["action_joints"][:-1])),
        r"action has shape|action\.mean has shape \(14,\)",
    ),
    "joint named twice": (edit_yaml(lambda r: r["state_joints"].__setitem__(1, "left_joint1")), "distinct"),
    "cameras that leave a hole": (edit_yaml(lambda r: r["cameras"][2].update(width=16)), "exactly once"),
    "impossible sizes": (edit_yaml(lambda r: r["model"].update(image_height=90)), "multiple of 32"),
    "unknown size": (edit_yaml(lambda r: r["model"].update(depth=3)), "depth"),
    "unknown sampler": (edit_yaml(lambda r: r.update(sampler={"steps": 0, "seed": 1})), "sampler"),
    "unknown text encoder": (edit_yaml(lambda r: r.update(text={"kind": "clip"})), "text.kind"),
    "missing embedding cache": (edit_yaml(lambda r: r.update(text={"kind": "cache"})), "embedding cache"),
    "statistics of another version": (edit_stats(lambda r: r.update(version=9)), "version"),
    "statistics with NaN": (
        edit_stats(lambda r: r["state"]["mean"].__setitem__(0, float("nan"))),
        "not finite",
    ),
    "statistics with a zero std": (edit_stats(lambda r: r["action"]["std"].__setitem__(2, 0)), "joint 2"),
    "a tensor is missing": (
        edit_weights(lambda t: t.pop("video.blocks.0.norm3.bias")),
        r"video\.blocks\.0\.norm3\.bias",
    ),
    "a tensor is left over": (edit_weights(lambda t: t.update({"tower.w": torch.zeros(1)})), r"tower\.w"),
    "a tensor of another shape": (
        edit_weights(lambda t: t.update({"proprio.bias": torch.zeros(3)})),
        r"proprio\.bias is \(3,\), not \(40,\)",
    ),
    "no VAE": (
        edit_weights(drop_vae),
        "no VAE",
    ),
    "a weight that is not finite": (edit_weights(nan_weight), r"action\.blocks\.1\.self_attn\.k\.weight"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_damaged_bundle_is_refused_by_name(bundle: Path, name: str) -> None:
    spoil, message = BAD[name]
    spoil(bundle)
    with pytest.raises(BundleError, match=message):
        load_policy(bundle)


def test_the_contract_hash_covers_manifest_statistics_and_header_but_not_the_numbers(bundle: Path) -> None:
    first = open_bundle(bundle).contract.contract_hash
    assert len(first) == 64
    edit_weights(lambda t: t.update({"proprio.bias": t["proprio.bias"] + 1.0}))(bundle)
    assert open_bundle(bundle).contract.contract_hash == first
    edit_stats(lambda r: r["action"]["mean"].__setitem__(0, 0.5))(bundle)
    second = open_bundle(bundle).contract.contract_hash
    edit_yaml(lambda r: r.update(instruction="open the drawer"))(bundle)
    third = open_bundle(bundle).contract.contract_hash
    edit_weights(lambda t: t.update({"vae.quant_conv.bias": t["vae.quant_conv.bias"].half()}))(bundle)
    fourth = open_bundle(bundle).contract.contract_hash
    assert len({first, second, third, fourth}) == 4


def test_the_same_seed_makes_the_same_bundle(made: Path, tmp_path: Path) -> None:
    twin = make_tiny_bundle(tmp_path / "twin", "aha_wam")
    for name in ("policy.yaml", "stats.json", "model.safetensors"):
        assert (twin.directory / name).read_bytes() == (made / name).read_bytes()
    other = make_tiny_bundle(tmp_path / "other", "aha_wam", seed=1)
    assert (other.directory / "model.safetensors").read_bytes() != (made / "model.safetensors").read_bytes()


def test_a_manifest_survives_its_yaml(made: Path) -> None:
    manifest = open_bundle(made).manifest
    assert Manifest.from_yaml(manifest.to_yaml()) == manifest


def test_a_bundle_is_never_written_over_another(made: Path) -> None:
    with pytest.raises(BundleError, match="not empty"):
        make_tiny_bundle(made, "aha_wam")


@pytest.mark.parametrize("cameras", [("front",), ("static", "wrist"), ("head", "left_wrist", "right_wrist")])
def test_a_tiny_bundle_is_made_for_any_robot(tmp_path: Path, cameras: tuple[str, ...]) -> None:
    joints = tuple(f"joint{i}" for i in range(7))
    robot = RobotLayout(
        cameras=cameras,
        state_joints=joints,
        action_joints=joints,
        centre=(0.5,) * 7,
        spread=(0.1,) * 7,
        control_period_ns=20_000_000,
        instruction="stack the cups",
    )
    bundle = make_tiny_bundle(tmp_path / "b", "aha_wam", robot=robot)
    c = bundle.contract
    assert c.camera_names == cameras
    assert c.action_joints == joints
    assert c.control_period_ns == 20_000_000
    assert c.instruction == "stack the cups"
    assert load_policy(bundle.directory).planner is not None


def test_a_built_in_policy_is_made_once_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = open_policy("aha_wam/random")
    stamp = (first.directory / "policy.yaml").stat().st_mtime_ns
    second = open_policy("aha_wam/random")
    assert second.directory == first.directory
    assert open_policy("aha_wam/tiny").directory == first.directory, "its earlier name"
    assert (second.directory / "policy.yaml").stat().st_mtime_ns == stamp
    assert [p.name for p in (tmp_path / "wam" / "bundles").iterdir()] == [first.directory.name]


def test_a_policy_without_its_kind_is_answered_with_the_whole_names() -> None:
    with pytest.raises(BundleError, match=r"got 'randm', did you mean '\w+/random'( or '\w+/random')+\?"):
        open_policy("randm")


def test_an_unknown_policy_and_an_absent_device_are_refused(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BundleError, match="no policy bundle of that name"):
        load_policy("nowhere/at_all")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BundleError, match="device is absent"):
        load_policy(made, device="cuda:0")


def test_shards_hold_what_one_file_holds_and_a_wrong_index_is_found(tmp_path: Path) -> None:
    tensors = {f"t{i}": torch.full((100,), float(i)) for i in range(7)}
    paths = save_weights(tmp_path, tensors, max_shard_bytes=1000)
    assert [p.name for p in paths] == [f"model-{i:05d}-of-00004.safetensors" for i in range(1, 5)]
    index = open_weights(tmp_path)
    assert set(index.tensors) == set(tensors)
    path = tmp_path / "model.safetensors.index.json"
    raw = json.loads(path.read_text())
    raw["weight_map"].pop("t3")
    path.write_text(json.dumps(raw))
    with pytest.raises(BundleError, match="t3"):
        open_weights(tmp_path)
    paths[1].unlink()
    with pytest.raises(BundleError, match=paths[1].name):
        open_weights(tmp_path)


def test_weights_are_for_whoever_may_read_the_bundle(tmp_path: Path) -> None:
    """They were for their owner alone, beside files for everybody: a robot's computer that runs as another user had a
    bundle without weights."""
    (path,) = save_weights(tmp_path, {"weight": torch.ones(2)})
    beside = tmp_path / "policy.yaml"
    beside.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(beside.stat().st_mode)


def test_loaded_weights_do_not_follow_the_file(tmp_path: Path) -> None:
    """Memory-mapped weights would change, or the process die, when a file is replaced under a running policy."""
    save_weights(tmp_path, {"weight": torch.ones(4, 4), "bias": torch.ones(4)})
    with torch.device("meta"):
        module = torch.nn.Linear(4, 4)
    load_into(module, open_weights(tmp_path), device="cpu")
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.truncate(0)
    assert torch.equal(module.weight, torch.ones(4, 4))


MEASURE = """
import sys, torch
from torch import nn
from pathlib import Path
from wam.models.bundle import load_into, open_weights
torch.set_num_threads(1)
directory, count, width = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
index = open_weights(directory)
with torch.device("meta"):
    module = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(count))
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(l for l in lines if l.startswith("VmHWM")).split()[1]) * 1024
with torch.device("meta"):
    warm = nn.Linear(8, 8, bias=False)
load_into(warm, open_weights(directory / "warm"), device="cpu")
before = peak()
load_into(module, index, device="cpu")
print(peak() - before)
"""


def test_loading_needs_little_more_memory_than_the_model(tmp_path: Path) -> None:
    """The limit is the model plus 1.2 times the largest shard."""
    width, count, per_shard = 1024, 48, 12
    nbytes = width * width * 4
    tensors = {f"{i}.weight": torch.zeros(width, width) for i in range(count)}
    save_weights(tmp_path, tensors, max_shard_bytes=per_shard * nbytes)
    (tmp_path / "warm").mkdir()
    save_weights(tmp_path / "warm", {"weight": torch.zeros(8, 8)})
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), str(count), str(width)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        # Every tensor in pages of its own: holes in the C library's heap differ from run to run by 90 MB.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"},
    )
    assert int(done.stdout) <= count * nbytes + 1.2 * per_shard * nbytes
