# SPDX-License-Identifier: Apache-2.0
"""`wam train ud-vla` from a data set to a policy bundle: both stages, masks, cache, resume, bad input."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from wam.cli.main import run
from wam.core.errors import BundleError, ConfigError, InputError
from wam.core.observation import CameraFrame, Instruction, Observation, RobotState
from wam.data.lerobot.reader import open_dataset
from wam.models.bundle import open_bundle, read_tensors
from wam.models.images import resize_bytes
from wam.models.normalisation import Normaliser
from wam.policies.bundles import load_policy, make_tiny_bundle
from wam.policies.ud_vla.contents import check
from wam.policies.ud_vla.text import byte_ids
from wam.policies.ud_vla.training.config import UdVlaTrainConfig
from wam.policies.ud_vla.training.data import NORM, ActionChunks, UdVlaSamples
from wam.policies.ud_vla.training.recipe import RECIPE
from wam.policies.ud_vla.training.start import ud_vla_start
from wam.training.config_reading import parse_config
from wam.training.episodes import Columns, EpisodeTable
from wam.training.reports import read_losses
from wam.training.runner import RunResult, run_recipe
from wam.training.sampler import SampleRef

CAMERA = "observation.images.head"


@pytest.fixture
def values(short_root: Path, tmp_path: Path) -> dict[str, Any]:
    """Plain values of a configuration that trains in a second."""
    return {
        "model": {"preset": "tiny", "overrides": {"hidden": 16, "layers": 1, "heads": 2, "ffn": 32}},
        "data": {
            "root": str(short_root),
            "cameras": [CAMERA],
            "sides": [[16, 16]],
            "chunk_rows": 4,
            "stride": 2,
            "code_cache": str(tmp_path / "codes"),
        },
        "optim": {
            "steps": 4,
            "batch_size": 4,
            "accumulate": 1,
            "learning_rate": 1e-3,
            "precision": "float32",
        },
        "run": {"out": str(tmp_path / "run"), "device": "cpu", "threads": 1, "tensorboard": False},
    }


def merged(values: dict[str, Any], **sections: dict[str, Any]) -> UdVlaTrainConfig:
    raw = copy.deepcopy(values)
    for name, section in sections.items():
        raw[name] = {**raw.get(name, {}), **section}
    return parse_config(UdVlaTrainConfig, raw)


def train_ud_vla(config: UdVlaTrainConfig, **options: Any) -> RunResult:
    return run_recipe(RECIPE, config, **options)


def weights_of(bundle: Path) -> dict[str, torch.Tensor]:
    return read_tensors(open_bundle(bundle).weights, prefix="")


def test_a_run_leaves_losses_a_checkpoint_and_a_bundle_that_loads(values: dict[str, Any]) -> None:
    result = train_ud_vla(merged(values, data={"validation_fraction": 0.5}, run={"validate_every": 2}))
    rows = read_losses(result.losses)
    assert [r["step"] for r in rows] == [1, 2, 3, 4]
    assert {"loss_total", "loss_image", "loss_action", "validation_action"} <= set(rows[1])
    assert result.finished
    assert result.plot.is_file()
    bundle = open_bundle(result.bundle)
    manifest, policy = bundle.manifest, check(bundle)
    assert manifest.action_joints == ("joint0", "joint1", "joint2")
    assert manifest.source["kind"] == "train ud-vla jd3p"
    assert (manifest.chunk_rows, manifest.control_period_ns) == (4, round(2e9 / 30))
    assert (manifest.action_norm.value, manifest.sampler["steps"]) == ("q01/q99", 72)
    # Fitted on the data set: every chunk of it is encoded and comes back.
    rows_TD = np.clip(np.sin(np.arange(4)[:, None] / 10 + np.arange(3)), -1, 1)
    decoded = policy.fast.decode(policy.fast.encode(rows_TD), rows=4, dims=3)
    assert decoded.valid
    assert np.abs(decoded.rows - rows_TD).max() < 0.2
    loaded = load_policy(result.bundle)
    frames = {"head": CameraFrame("head", 10**9, np.full((32, 32, 3), 90, np.uint8))}
    state = RobotState(10**9, manifest.state_joints, np.zeros(3), np.zeros(3))
    seen = Observation(10**9, frames, state)
    context = loaded.planner.plan(seen, instruction=Instruction("lift the cup"))
    assert context.payload.k.shape[0] == 1


def test_every_weight_of_the_decoder_learns_and_the_image_tokenizer_stays(values: dict[str, Any]) -> None:
    first = train_ud_vla(
        merged(
            values,
            run={"out": values["run"]["out"] + "0"},
            optim={"steps": 1, "learning_rate": 1e-12, "weight_decay": 0.0},
        )
    )
    result = train_ud_vla(merged(values, optim={"weight_decay": 0.0}))
    before, after = weights_of(first.bundle), weights_of(result.bundle)
    changed = {n for n, t in after.items() if not torch.allclose(t, before[n], atol=1e-7, rtol=0)}
    assert not any(n.startswith("vision.") for n in changed)
    assert {n for n in after if n.startswith("decoder.")} == changed


def test_a_world_model_of_videos_alone_then_actions(values: dict[str, Any]) -> None:
    """Stage (i) reads no joints; stage (ii) goes on from its weights, with a vocabulary fitted on the actions."""
    out = values["run"]["out"]
    videos = merged(
        values,
        objective={"stage": "video", "frames": 3},
        data={"state": None, "action": None, "joint_names": ["joint0", "joint1", "joint2"]},
        model={"overrides": {**values["model"]["overrides"], "max_positions": 220}},
        run={"out": out + "-videos"},
    )
    first = train_ud_vla(videos)
    rows = read_losses(first.losses)
    assert set(rows[0]) == {"step", "epoch", "seconds", "learning_rate", "grad_norm", "loss_total"}
    with pytest.raises(ConfigError, match=r"actions: an alphabet"):
        train_ud_vla(merged_going(values, first.bundle, tokenizer="fit", scale=100.0))
    second = train_ud_vla(merged_going(values, first.bundle, tokenizer="fit", scale=8.0))
    manifest = open_bundle(second.bundle).manifest
    assert manifest.source["bundle"] == "bundle"
    assert manifest.source["kind"] == "train ud-vla jd3p"


def merged_going(values: dict[str, Any], bundle: Path, **actions: Any) -> UdVlaTrainConfig:
    raw = copy.deepcopy(values)
    raw["model"] = {"bundle": str(bundle)}
    raw["data"].pop("sides")
    raw["actions"] = actions
    return parse_config(UdVlaTrainConfig, raw)


@pytest.mark.parametrize(("law", "mask"), [("joint", "hybrid"), ("independent", "released")])
def test_both_laws_and_both_masks_train(values: dict[str, Any], law: str, mask: str) -> None:
    config = merged(values, objective={"law": law}, model={"mask": mask}, optim={"steps": 2})
    result = train_ud_vla(config)
    assert check(open_bundle(result.bundle)).network.mask.value == mask
    other = "released" if mask == "hybrid" else "hybrid"
    raw = copy.deepcopy(values)
    raw["model"] = {"bundle": str(result.bundle), "mask": other}
    raw["data"].pop("sides")
    raw["run"]["out"] += "2"
    with pytest.raises(ConfigError, match="another attention mask"):
        train_ud_vla(parse_config(UdVlaTrainConfig, raw))


def test_a_continued_run_ends_like_one_that_was_never_stopped(values: dict[str, Any]) -> None:
    """With dropout: what is dropped is a function of the step."""
    whole = train_ud_vla(merged(values, run={"out": values["run"]["out"] + "-whole"}))
    config = merged(values)
    half = train_ud_vla(config, until=2)
    assert not half.finished
    with pytest.raises(ConfigError, match="holds checkpoints up to step_00000002"):
        train_ud_vla(config)
    with pytest.raises(ConfigError, match=r"objective\.law"):
        train_ud_vla(merged(values, objective={"law": "joint"}), resume=True)
    done = train_ud_vla(config, resume=True)
    assert [r["step"] for r in read_losses(done.losses)] == [1, 2, 3, 4]
    a, b = weights_of(whole.bundle), weights_of(done.bundle)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_cached_codes_and_pictures_give_the_same_losses(values: dict[str, Any]) -> None:
    cached = train_ud_vla(merged(values))
    plain = train_ud_vla(merged(values, data={"code_cache": None}, run={"out": values["run"]["out"] + "2"}))
    for a, b in zip(read_losses(cached.losses), read_losses(plain.losses), strict=True):
        assert a["loss_total"] == pytest.approx(b["loss_total"], rel=1e-5)
    files = list(Path(values["data"]["code_cache"]).iterdir())
    assert len(files) == 2


def test_a_chunk_with_more_tokens_than_the_action_block_has_sites_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="does not fit the action block"):
        train_ud_vla(merged(values, actions={"action_len": 3}))


@pytest.mark.parametrize(
    ("sections", "text"),
    [
        ({"data": {"sides": [[30, 32]]}}, "multiples of 8"),
        ({"data": {"sides": [[32]]}}, r"data\.sides"),
        ({"data": {"stride": 0}}, r"data\.stride"),
        ({"data": {"state": None}}, r"data\.state, data\.action"),
        ({"data": {"state": None, "action": None}}, "only in stage video"),
        ({"model": {"overrides": {"depth": 3}}}, "depth"),
        ({"model": {"overrides": {"heads": 3}}}, "heads of even width"),
        ({"model": {"mask": "causal"}}, r"model\.mask"),
        ({"model": {"preset": "huge"}}, "huge"),
        ({"model": {"bundle": "/nowhere", "overrides": {}}}, r"data\.sides"),
        ({"actions": {"file": "x"}}, r"actions\.file"),
        ({"actions": {"tokenizer": "file"}}, r"actions\.file"),
        ({"actions": {"tokenizer": "file", "file": "/nowhere"}}, "action tokenizer /nowhere is missing"),
        ({"actions": {"scale": 1000.0}}, r"actions\.scale"),
        ({"objective": {"stage": "dream"}}, r"objective\.stage"),
        ({"objective": {"frames": 1}}, r"objective\.frames"),
        ({"objective": {"stage": "video", "frames": 50}}, r"objective\.frames"),
        ({"objective": {"visual_weight": 0}}, r"objective\.visual_weight"),
        ({"optim": {"dropout": 1.0}}, r"optim\.dropout"),
    ],
)
def test_an_illegal_configuration_is_refused_by_name(
    values: dict[str, Any], sections: dict[str, Any], text: str
) -> None:
    with pytest.raises((ConfigError, BundleError), match=text):
        train_ud_vla(merged(values, **sections))
    assert not (Path(values["run"]["out"]) / "checkpoints").exists()


def test_the_command_trains_stops_and_goes_on(
    values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(values))
    command = ["train", "ud-vla", "--config", str(file), "--set", "optim.steps=3"]
    assert run([*command, "--until", "2"]) == 0
    assert "stopped, continue with --resume at step 2" in " ".join(capsys.readouterr().out.split())
    assert run([*command, "--resume"]) == 0
    assert "finished at step 3" in " ".join(capsys.readouterr().out.split())
    assert run(command) == 1
    assert "holds checkpoints" in capsys.readouterr().err


def test_another_kind_of_bundle_is_refused(values: dict[str, Any], tmp_path: Path) -> None:
    make_tiny_bundle(tmp_path / "dust", "dust")
    with pytest.raises(BundleError, match="kind: got 'dust'"):
        train_ud_vla(merged_going(values, tmp_path / "dust"))


def test_a_sample_is_now_and_a_chunk_later_and_does_not_depend_on_earlier_ones(
    values: dict[str, Any], short_root: Path
) -> None:
    """The public data set kept a counter between items, so that what one held depended on the order of reading."""
    config = merged(values, data={"code_cache": None})
    dataset = open_dataset(short_root)
    table = EpisodeTable(dataset, dataset.present(), Columns((CAMERA,)))
    stats = table.statistics()
    chunks = ActionChunks(table, stats, stride=2)
    start = ud_vla_start(config, None, joints=3, windows=chunks.spread)
    samples = UdVlaSamples(table, start, config, actions=chunks)
    before = samples[SampleRef(5, 0)]
    for index in (0, 60, 81, 69):
        samples[SampleRef(index, 0)]
    after = samples[SampleRef(5, 0)]
    assert torch.equal(before.views[0], after.views[0])
    assert torch.equal(before.actions, after.actions)
    # Row 5 of the first episode, and four policy rows of two data rows later.
    frames = dataset.frames(table.episodes[0], CAMERA, [5, 13])
    expected = np.stack([resize_bytes(frame, height=16, width=16) for frame in frames])
    np.testing.assert_array_equal(before.views[0][0].numpy(), expected)
    tokens = start.layout.tokens
    text = [tokens.bos, *byte_ids("lift the cup")]
    assert before.texts[0].tolist() == text
    decoded = start.fast.decode(
        tokens.from_action(start.layout.action_ids_of(before.actions[0])).tolist(), rows=4, dims=3
    )
    rows = Normaliser(stats.stats.action, mode=NORM).to_model(table.actions[0][[5, 7, 9, 11]])
    assert decoded.valid
    assert np.abs(decoded.rows - np.clip(rows, -1, 1)).max() < 0.15
    # Past the end the last picture and the last action are repeated.
    last = samples[SampleRef(69, 0)]
    assert torch.equal(last.views[0][0, 0], last.views[0][0, 1])
