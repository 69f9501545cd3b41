# SPDX-License-Identifier: Apache-2.0
"""Whole runs on a small data set: files, resuming bit by bit, bundles that the policies load."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from wam.core.errors import BundleError, ConfigError, MissingDependency, PolicyFault, WamError
from wam.core.observation import CameraFrame, Instruction, Observation, RobotState
from wam.models.bundle import open_bundle
from wam.policies.aha_wam.training.config import AhaWamTrainConfig
from wam.policies.aha_wam.training.recipe import DISTILL_RECIPE, RECIPE
from wam.policies.aha_wam.training.start import preset_config, start
from wam.policies.bundles import load_policy
from wam.training.checkpoint import list_checkpoints
from wam.training.config_reading import parse_config
from wam.training.reports import read_losses
from wam.training.runner import Listener, RunPlan, run_recipe

JOINTS = (("joint0", "joint1", "joint2"),) * 2
HAS_TENSORBOARD = importlib.util.find_spec("tensorboard") is not None


def config_with(values: dict[str, Any], **changes: Any):
    merged = copy.deepcopy(values)
    for path, value in changes.items():
        section, _, key = path.partition("__")
        merged.setdefault(section, {})[key] = value
    return parse_config(AhaWamTrainConfig, merged)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


class Recorder(Listener):
    """Keeps what a run tells."""

    def __init__(self) -> None:
        self.plan: RunPlan | None = None
        self.steps: list[int] = []
        self.checkpoints: list[str] = []

    def on_plan(self, plan: RunPlan) -> None:
        self.plan = plan

    def on_step(self, record) -> None:
        self.steps.append(record.step)

    def on_checkpoint(self, folder: Path) -> None:
        self.checkpoints.append(folder.name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, dataset_root: Path) -> Path:
    """The folder of a finished run of six steps."""
    out = tmp_path_factory.mktemp("trained") / "run"
    values = {
        "model": {
            "preset": "tiny",
            "overrides": {"image_height": 32, "image_width": 32, "memory_window": 2, "queries": 4},
        },
        "data": {
            "root": str(dataset_root),
            "cameras": ["observation.images.head"],
            "history_frames": 2,
            "horizon_rows": 32,
            "max_offset": 15,
        },
        "optim": {"steps": 6, "batch_size": 2, "learning_rate": 1e-3, "precision": "float32"},
        "run": {
            "out": str(out),
            "device": "cpu",
            "threads": 1,
            "checkpoint_every": 0,
            "tensorboard": HAS_TENSORBOARD,
        },
    }
    result = run_recipe(RECIPE, parse_config(AhaWamTrainConfig, values))
    assert result.finished
    return out


def test_a_run_leaves_losses_curve_checkpoint_and_bundle(trained: Path) -> None:
    rows = read_losses(trained / "losses.csv")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(row["loss_total"] == pytest.approx(row["loss_video"] + row["loss_action"]) for row in rows)
    assert all(row["grad_norm"] > 0 for row in rows)
    assert (trained / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in list_checkpoints(trained)] == ["step_00000006"]
    bundle = open_bundle(trained / "bundle")
    assert bundle.manifest.source["step"] == 6
    assert (bundle.manifest.state_joints, bundle.manifest.horizon_rows) == (
        ("joint0", "joint1", "joint2"),
        32,
    )
    assert bundle.manifest.model["memory_spacing_rows"] == 64
    assert bundle.manifest.control_period_ns == 33_333_333


@pytest.mark.skipif(not HAS_TENSORBOARD, reason="tensorboard is not installed")
def test_a_run_writes_tensorboard_events(trained: Path) -> None:
    assert list((trained / "tensorboard").glob("events.out.tfevents.*"))


def test_events_without_tensorboard_are_a_named_error(
    run_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependency, match=r"run\.tensorboard: false"):
        run_recipe(RECIPE, config_with(run_values, run__tensorboard=True, optim__steps=1))


def test_the_bundle_of_a_run_plans_and_acts(trained: Path) -> None:
    policy = load_policy(trained / "bundle")
    names = policy.contract.state_joints
    assert policy.planner is not None
    assert policy.executor is not None
    state = RobotState(10, names, np.zeros(3), np.zeros(3))
    image = CameraFrame("head", 10, np.full((48, 64, 3), 90, np.uint8))
    observation = Observation(10, {"head": image}, state)
    context = policy.planner.plan(observation, instruction=Instruction("lift the cup", 1))
    chunk = policy.executor.act(policy.executor.route(observation, context=context), proprio=state)
    assert chunk.rows.shape == (16, 3)
    assert np.isfinite(chunk.rows).all()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_interrupted_run_ends_bit_for_bit_like_an_uninterrupted_one(
    run_values: dict[str, Any], tmp_path: Path, precision: str
) -> None:
    changes = {
        "optim__precision": precision,
        "optim__accumulate": 2,
        "data__max_offset": 15,
        "data__latent_cache": str(tmp_path / "latents"),
    }
    whole = run_recipe(RECIPE, config_with(run_values, run__out=str(tmp_path / "whole"), **changes))
    parts = config_with(run_values, run__out=str(tmp_path / "parts"), **changes)
    first = run_recipe(RECIPE, parts, until=3)
    assert not first.finished
    recorder = Recorder()
    second = run_recipe(RECIPE, parts, resume=True, listener=recorder)
    assert recorder.steps == [4, 5, 6]
    assert recorder.plan is not None
    assert recorder.plan.first_step == 3
    assert (second.step, second.finished) == (6, True)
    assert same(weights_of(tmp_path / "whole" / "bundle"), weights_of(tmp_path / "parts" / "bundle"))
    ends = [
        torch.load(tmp_path / run / "checkpoints" / "step_00000006" / "state.pt", weights_only=True)
        for run in ("whole", "parts")
    ]
    moments = [end["optimiser"]["state"] for end in ends]
    assert moments[0].keys() == moments[1].keys()
    for name, entry in moments[0].items():
        for key, value in entry.items():
            assert torch.equal(value, moments[1][name][key]), (name, key)
    losses = [[row["loss_total"] for row in read_losses(r.losses)] for r in (whole, second)]
    assert losses[0] == losses[1]


RELATIVE_PIXELS = {
    "data__relative_actions": True,
    "data__augment": {"shift": 2, "colour": 0.1, "state_noise": 0.1},
    "optim__average": 0.9,
}


def relative_pixels(run_values: dict[str, Any], **changes: Any) -> AhaWamTrainConfig:
    values = copy.deepcopy(run_values)
    values["model"]["overrides"]["latents"] = "pixels"
    return config_with(values, **RELATIVE_PIXELS, **changes)


def test_a_run_on_pixels_with_averaged_weights_is_resumed_bit_for_bit_and_acts_from_where_the_arm_is(
    run_values: dict[str, Any], tmp_path: Path
) -> None:
    cache = {"data__latent_cache": str(tmp_path / "pictures")}
    run_recipe(RECIPE, relative_pixels(run_values, run__out=str(tmp_path / "whole"), **cache))
    parts = relative_pixels(run_values, run__out=str(tmp_path / "parts"))
    run_recipe(RECIPE, parts, until=3)
    run_recipe(RECIPE, parts, resume=True)
    whole = weights_of(tmp_path / "whole" / "bundle")
    assert same(whole, weights_of(tmp_path / "parts" / "bundle")), "with a cache and without one"
    last = weights_of(tmp_path / "whole" / "checkpoints" / "step_00000006")
    assert not same(whole, last), "the bundle has the average"
    assert not any(name.startswith("vae.") for name in whole)

    policy = load_policy(tmp_path / "whole" / "bundle")
    assert policy.contract.relative_actions
    assert policy.planner is not None
    assert policy.executor is not None
    image = CameraFrame("head", 10, np.full((48, 64, 3), 90, np.uint8))
    rows = []
    for place in (0.0, 0.5):
        state = RobotState(10, policy.contract.state_joints, np.full(3, place), np.zeros(3))
        seen = Observation(10, {"head": image}, state)
        context = policy.planner.plan(seen, instruction=Instruction("lift the cup", 1))
        routed = policy.executor.route(seen, context=context)
        chunk = policy.executor.act(routed, proprio=state)
        rows.append(chunk.rows)
        stats = open_bundle(tmp_path / "whole" / "bundle").stats.action
        away = np.abs(chunk.rows - place - stats.values["mean"])
        assert (away < 8 * stats.values["std"]).all(), "rows lead from the measured state"
    assert not np.array_equal(rows[0], rows[1])
    # Bundles ship as bfloat16; the pixels came into the network as float32, and it failed.
    half = load_policy(tmp_path / "whole" / "bundle", dtype=torch.bfloat16)
    assert half.planner is not None
    assert half.executor is not None
    state = RobotState(10, half.contract.state_joints, np.zeros(3), np.zeros(3))
    seen = Observation(10, {"head": image}, state)
    context = half.planner.plan(seen, instruction=Instruction("lift the cup", 1))
    near = half.executor.act(half.executor.route(seen, context=context), proprio=state).rows
    assert np.abs(near - rows[0]).max() < 0.2 * stats.values["std"].max()


def test_changes_of_pictures_are_refused_where_latents_are_computed_once(run_values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"data\.augment.*latents: pixels"):
        run_recipe(RECIPE, config_with(run_values, data__augment={"shift": 2}))


def test_a_bundle_whose_rows_are_positions_is_not_trained_on_relative_ones(
    trained: Path, run_values: dict[str, Any]
) -> None:
    values = copy.deepcopy(run_values)
    values["model"] = {"bundle": str(trained / "bundle")}
    with pytest.raises(ConfigError, match=r"data\.relative_actions is true"):
        run_recipe(RECIPE, config_with(values, data__relative_actions=True))


def test_the_same_configuration_gives_the_same_weights_twice_and_another_seed_others(
    run_values: dict[str, Any], tmp_path: Path
) -> None:
    results = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run_recipe(
            RECIPE, config_with(run_values, run__out=str(tmp_path / name), run__seed=seed, optim__steps=2)
        )
        results[name] = weights_of(tmp_path / name / "bundle")
    assert same(results["a"], results["b"])
    assert not same(results["a"], results["c"])


def test_data_loader_processes_change_nothing(run_values: dict[str, Any], tmp_path: Path) -> None:
    for name, workers in (("none", 0), ("one", 1)):
        run_recipe(
            RECIPE,
            config_with(run_values, run__out=str(tmp_path / name), data__workers=workers, optim__steps=2),
        )
    assert same(weights_of(tmp_path / "none" / "bundle"), weights_of(tmp_path / "one" / "bundle"))


def test_old_checkpoints_go_and_the_newest_stay(run_values: dict[str, Any]) -> None:
    recorder = Recorder()
    config = config_with(run_values, run__checkpoint_every=1, run__keep_checkpoints=2, optim__steps=4)
    run_recipe(RECIPE, config, listener=recorder)
    assert recorder.checkpoints == [f"step_{i:08d}" for i in (1, 2, 3, 4)]
    assert [path.name for path in list_checkpoints(config.run.out)] == ["step_00000003", "step_00000004"]


def test_a_stopped_run_leaves_a_checkpoint_and_a_bundle(run_values: dict[str, Any]) -> None:
    stop = Event()

    class StopAtTwo(Listener):
        def on_step(self, record) -> None:
            if record.step == 2:
                stop.set()

    config = config_with(run_values)
    result = run_recipe(RECIPE, config, listener=StopAtTwo(), stop=stop)
    assert (result.step, result.finished) == (2, False)
    assert [path.name for path in list_checkpoints(config.run.out)] == ["step_00000002"]
    assert open_bundle(config.run.out / "bundle").manifest.source["step"] == 2


def test_a_folder_that_holds_a_run_is_not_overwritten(run_values: dict[str, Any]) -> None:
    config = config_with(run_values, optim__steps=1)
    run_recipe(RECIPE, config)
    with pytest.raises(ConfigError, match=r"holds checkpoints up to step_00000001.*--resume"):
        run_recipe(RECIPE, config)


def test_a_run_continues_with_its_own_configuration_only(run_values: dict[str, Any]) -> None:
    run_recipe(RECIPE, config_with(run_values), until=1)
    with pytest.raises(ConfigError, match=r"optim\.learning_rate: 0\.001 then, 0\.01 now"):
        run_recipe(RECIPE, config_with(run_values, optim__learning_rate=0.01), resume=True)


def test_a_damaged_checkpoint_is_named(run_values: dict[str, Any]) -> None:
    config = config_with(run_values)
    run_recipe(RECIPE, config, until=1)
    state = list_checkpoints(config.run.out)[-1] / "state.pt"
    state.write_bytes(state.read_bytes()[:-1000])
    with pytest.raises(BundleError, match=r"state\.pt is damaged"):
        run_recipe(RECIPE, config, resume=True)


def test_a_run_that_diverges_stops_before_it_spoils_the_weights(run_values: dict[str, Any]) -> None:
    config = config_with(run_values, optim__learning_rate=1e30, optim__warmup_fraction=0.0)
    with pytest.raises(PolicyFault, match=r"training diverged in step \d+: losses .*learning_rate"):
        run_recipe(RECIPE, config)


def test_validation_uses_other_episodes_and_the_same_noise_every_time(run_values: dict[str, Any]) -> None:
    config = config_with(
        run_values,
        data__validation_fraction=0.5,
        run__validate_every=1,
        optim__learning_rate=1e-30,
        optim__steps=2,
    )
    recorder = Recorder()
    result = run_recipe(RECIPE, config, listener=recorder)
    rows = read_losses(result.losses)
    assert rows[0]["validation_total"] == rows[1]["validation_total"]
    assert rows[0]["loss_total"] != rows[1]["loss_total"]
    assert recorder.plan is not None
    assert recorder.plan.episodes == 1


def test_recomputed_blocks_give_the_same_weights(run_values: dict[str, Any], tmp_path: Path) -> None:
    for name, recompute in (("kept", False), ("recomputed", True)):
        run_recipe(
            RECIPE,
            config_with(
                run_values, run__out=str(tmp_path / name), optim__recompute_blocks=recompute, optim__steps=2
            ),
        )
    assert same(weights_of(tmp_path / "kept" / "bundle"), weights_of(tmp_path / "recomputed" / "bundle"))


def test_a_frozen_planner_keeps_its_weights(run_values: dict[str, Any]) -> None:
    config = config_with(run_values, model__freeze_video=True, optim__steps=2)
    run_recipe(RECIPE, config)
    before = start(config.model, config.data, JOINTS).model.state_dict()
    after = weights_of(config.run.out / "bundle")
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert "video" not in changed
    assert {"action", "editor", "proprio"} <= changed


def test_distillation_changes_the_action_expert_alone_and_keeps_the_units_of_its_teacher(
    trained: Path, run_values: dict[str, Any]
) -> None:
    teacher = open_bundle(trained / "bundle")
    values = copy.deepcopy(run_values)
    values["model"] = {"bundle": str(trained / "bundle")}
    values["data"]["max_offset"] = 15
    config = config_with(values, distill__anchors="noisy", optim__steps=3, optim__accumulate=2)
    run_recipe(DISTILL_RECIPE, config, until=2)
    result = run_recipe(DISTILL_RECIPE, config, resume=True)
    assert result.finished
    before, after = weights_of(trained / "bundle"), weights_of(config.run.out / "bundle")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(("action.", "branch_embedding")) for name in changed)
    student = open_bundle(config.run.out / "bundle")
    assert student.manifest.sampler["steps"] == 2
    assert student.manifest.source["kind"] == "distill"
    for name, value in teacher.stats.action.values.items():
        np.testing.assert_array_equal(student.stats.action.values[name], value)


def test_distillation_without_a_teacher_is_refused(run_values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"model\.bundle is missing"):
        run_recipe(DISTILL_RECIPE, config_with(run_values))


def test_a_run_starts_from_a_bundle_with_its_weights(trained: Path, run_values: dict[str, Any]) -> None:
    values = copy.deepcopy(run_values)
    values["model"] = {"bundle": str(trained / "bundle")}
    values["data"]["max_offset"] = 15
    config = config_with(values, optim__steps=1, optim__learning_rate=1e-30)
    run_recipe(RECIPE, config)
    before, after = weights_of(trained / "bundle"), weights_of(config.run.out / "bundle")
    assert before.keys() == after.keys()
    for name in before:
        torch.testing.assert_close(after[name], before[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("variant", "lacking"),
    [("naive_async", {"editor", "query_encoder", "visual_projection"}), ("ovcr", set())],
)
def test_an_ablation_is_written_into_the_bundle(
    run_values: dict[str, Any], variant: str, lacking: set[str]
) -> None:
    config = config_with(run_values, model__ablation=variant, optim__steps=1)
    run_recipe(RECIPE, config)
    bundle = open_bundle(config.run.out / "bundle")
    assert bundle.manifest.model["memory_window"] == 0
    parts = {name.partition(".")[0] for name in bundle.weights.tensors}
    assert {"editor", "query_encoder", "visual_projection"} - parts == lacking
    load_policy(config.run.out / "bundle")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"cameras": ["observation.images.head"] * 2},
            r"the cameras of the data set .*: 2, of the bundle .*: 1",
        ),
        ({"action": "timestamp"}, r"the action of the data set \(timestamp\): 1, of the bundle .*: 3"),
        ({"cameras": ["observation.images.wrist"]}, r"no feature 'observation\.images\.wrist'"),
        ({"episodes": [0, 7]}, r"episodes \[7\] are not on disk"),
        ({"horizon_rows": 40}, r"horizon_rows=40 is not a .*multiple of chunk_rows=16"),
        ({"max_offset": 16}, r"max_offset=16 is not in 0\.\.chunk_rows-1=15"),
        ({"validation_fraction": 0.9}, r"keeps 2 of 2 episodes"),
        ({"stats": "STATS"}, r"action\.default has shape \(2,\)|has shape \(2,\)"),
    ],
)
def test_a_data_set_that_does_not_fit_is_refused_before_anything_is_trained(
    trained: Path,
    run_values: dict[str, Any],
    tmp_path: Path,
    changes: dict[str, Any],
    text: str,
) -> None:
    values = copy.deepcopy(run_values)
    values["model"] = {"bundle": str(trained / "bundle")}
    values["optim"]["steps"] = 1
    stats = tmp_path / "dataset_stats.json"
    narrow = {f"global_{n}": [1.0, 2.0] for n in ("mean", "std")}
    stats.write_text(json.dumps({k: {"default": narrow} for k in ("state", "action")}))
    values["data"] |= {k: str(stats) if v == "STATS" else v for k, v in changes.items()}
    if "action" in changes:
        values["data"]["joint_names"] = ["time"]
    if len(changes.get("cameras", ())) == 2:
        values["data"]["camera_names"] = ["one", "two"]
    with pytest.raises(WamError, match=text):
        run_recipe(RECIPE, parse_config(AhaWamTrainConfig, values))
    assert not (Path(values["run"]["out"]) / "checkpoints").exists()


def test_a_picture_layout_without_a_standard_is_named(run_values: dict[str, Any]) -> None:
    changes = {"data__cameras": ["observation.images.head"] * 4, "data__camera_names": ["a", "b", "c", "d"]}
    with pytest.raises(ConfigError, match=r"data\.cameras: no standard layout of 4 cameras"):
        run_recipe(RECIPE, config_with(run_values, **changes))


def test_presets_take_nested_overrides_and_name_unknown_ones() -> None:
    config = preset_config("tiny", {"video": {"ffn": 32}, "queries": 5})
    assert (config.video.ffn, config.video.width, config.queries) == (32, 64, 5)
    with pytest.raises(ConfigError, match="unknown keys"):
        preset_config("tiny", {"quries": 5})
    with pytest.raises(ConfigError, match="no preset 'small'"):
        preset_config("small", {})
