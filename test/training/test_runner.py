# SPDX-License-Identifier: Apache-2.0
"""The runner with a toy recipe: what every policy gets without writing it."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from toy_recipe import RECIPE, ToyObjective, ToyTrainConfig

from wam.core.contract import TrainedOn
from wam.core.errors import BundleError, ConfigError, PolicyFault, RecordingError
from wam.models.bundle import open_bundle
from wam.models.column_units import ColumnUnit
from wam.training.closed_loop import SuccessLog, Trial, TrialOutcome, read_outcomes
from wam.training.config_reading import parse_config, read_config
from wam.training.loop import make_optimiser
from wam.training.progress import train_from_file
from wam.training.reports import StepRecord, read_losses
from wam.training.runner import Listener, RunPlan, RunResult, run_recipe


@pytest.fixture
def values(short_root: Path, tmp_path: Path) -> dict[str, Any]:
    """Plain values of a run of six steps."""
    return {
        "data": {"root": str(short_root), "cameras": ["observation.images.head"]},
        "optim": {"steps": 6, "batch_size": 4, "learning_rate": 1e-2, "precision": "float32"},
        "run": {"out": str(tmp_path / "run"), "device": "cpu", "threads": 1, "tensorboard": False},
    }


def merged(values: dict[str, Any], **sections: dict[str, Any]) -> ToyTrainConfig:
    raw = copy.deepcopy(values)
    for name, section in sections.items():
        raw[name] = {**raw.get(name, {}), **section}
    return parse_config(ToyTrainConfig, raw)


def train(config: ToyTrainConfig, **options: Any) -> RunResult:
    return run_recipe(RECIPE, config, **options)


class Recorder(Listener):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.plans: list[RunPlan] = []
        self.steps: list[int] = []
        self.checkpoints: list[str] = []
        self.cached: list[tuple[int, int]] = []

    def on_cache(self, done: int, episodes: int) -> None:
        self.cached.append((done, episodes))

    def on_plan(self, plan: RunPlan) -> None:
        self.plans.append(plan)

    def on_step(self, record: StepRecord) -> None:
        self.steps.append(record.step)

    def on_checkpoint(self, folder: Path) -> None:
        self.checkpoints.append(folder.name)


def test_a_run_leaves_its_configuration_losses_curve_checkpoints_and_a_bundle(values: dict[str, Any]) -> None:
    recorder = Recorder()
    config = merged(
        values,
        data={"validation_fraction": 0.5},
        run={"checkpoint_every": 2, "validate_every": 3},
    )
    result = train(config, listener=recorder)
    out = config.run.out
    assert (result.bundle, result.step, result.finished) == (out / "bundle", 6, True)
    (plan,) = recorder.plans
    assert (plan.kind, plan.episodes, plan.steps, plan.first_step, plan.parameters) == (
        "Toy map",
        1,
        6,
        0,
        12,
    )
    assert recorder.steps == [1, 2, 3, 4, 5, 6]
    assert recorder.checkpoints == ["step_00000002", "step_00000004", "step_00000006"]
    rows = read_losses(result.losses)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(row["loss_worst"] >= row["loss_total"] > 0 for row in rows)
    assert [row["step"] for row in rows if "validation_total" in row] == [3, 6]
    assert [row["step"] for row in rows if "validation_error_si" in row] == [3, 6]
    error = json.loads((out / "action_error.json").read_text())
    assert (error["step"], list(error["policy"])) == (6, ["joint0", "joint1", "joint2"])
    mean = np.mean(list(error["policy"].values()))
    assert rows[-1]["validation_error_si"] == pytest.approx(mean, abs=1e-5)
    assert rows[-1]["validation_still_si"] == pytest.approx(np.mean(list(error["still"].values())), abs=1e-5)
    assert result.plot.read_bytes().startswith(b"\x89PNG")
    kept = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert kept == ["step_00000004", "step_00000006"]
    assert sorted(path.name for path in (out / "checkpoints" / kept[-1]).iterdir()) == [
        "config.yaml",
        "dataset_stats.json",
        "model.safetensors",
        "state.pt",
    ]
    assert parse_config(ToyTrainConfig, yaml.safe_load((out / "config.yaml").read_text())) == config
    assert open_bundle(out / "bundle").manifest.source == {"step": 6}


def test_a_bundle_states_the_task_and_the_data_that_it_was_trained_on(values: dict[str, Any]) -> None:
    root = Path(values["data"]["root"])
    plain = open_bundle(train(merged(values)).bundle)
    assert (plain.contract.task, plain.contract.trained_on) == ("", TrainedOn(root.name, 2))
    copied = shutil.copytree(root, Path(values["run"]["out"]).parent / "recorded")
    about = {"task": "carry", "seed": 7, "last_seed": 10, "quality": "fast"}
    (copied / "meta" / "wam.json").write_text(json.dumps(about))
    recorded = merged(values, data={"root": str(copied)}, run={"out": str(copied.parent / "second")})
    stated = open_bundle(train(recorded).bundle).contract
    assert stated.task == "carry"
    assert stated.trained_on == TrainedOn("recorded", 2, (7, 10), "fast")
    renamed = replace(recorded, run=replace(recorded.run, out=copied.parent / "third", task="fold"))
    assert open_bundle(train(renamed).bundle).contract.task == "fold"
    (copied / "meta" / "wam.json").write_text("{}")
    with pytest.raises(RecordingError, match=r"wam\.json is damaged"):
        train(replace(recorded, run=replace(recorded.run, out=copied.parent / "fourth")))
    assert not (copied.parent / "fourth").exists()


def test_a_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(
    values: dict[str, Any], tmp_path: Path
) -> None:
    whole = train(merged(values, run={"out": str(tmp_path / "whole")}))
    halted = train(merged(values), until=2)
    assert not halted.finished
    recorder = Recorder()
    resumed = train(merged(values), resume=True, listener=recorder)
    assert (recorder.plans[0].first_step, recorder.steps) == (2, [3, 4, 5, 6])
    ends = [load_file(r.bundle / "model.safetensors") for r in (whole, resumed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    losses = [[row["loss_total"] for row in read_losses(r.losses)] for r in (whole, resumed)]
    assert losses[0] == losses[1]


def test_a_set_event_ends_the_run_after_the_step_with_a_checkpoint_and_a_bundle(
    values: dict[str, Any],
) -> None:
    stop = Event()

    class Stopping(Recorder):
        def on_step(self, record: StepRecord) -> None:
            super().on_step(record)
            if record.step == 3:
                stop.set()

    recorder = Stopping()
    result = train(merged(values), listener=recorder, stop=stop)
    assert (result.step, result.finished) == (3, False)
    assert recorder.checkpoints == ["step_00000003"]
    assert open_bundle(result.bundle).manifest.source == {"step": 3}


def test_every_section_but_run_must_agree_with_the_checkpoint_except_keys_that_change_nothing(
    values: dict[str, Any], tmp_path: Path
) -> None:
    train(merged(values), until=1)
    with pytest.raises(ConfigError, match=r"holds checkpoints up to step_00000001"):
        train(merged(values))
    with pytest.raises(ConfigError, match=r"model\.noise: 0\.1 then, 0\.2 now"):
        train(merged(values, model={"noise": 0.2}), resume=True)
    with pytest.raises(ConfigError, match=r"run\.seed: 42 then, 1 now"):
        train(merged(values, run={"seed": 1}), resume=True)
    changed = merged(values, data={"cache": str(tmp_path / "cache")}, run={"validate_every": 9})
    assert train(changed, resume=True, until=2).step == 2


def test_a_checkpoint_of_another_network_is_refused(values: dict[str, Any]) -> None:
    config = merged(values)
    train(config, until=1)
    stored = config.run.out / "checkpoints" / "step_00000001" / "config.yaml"
    stored.write_text(stored.read_text().replace("bias: true", "bias: false"))
    with pytest.raises(BundleError, match="the network of"):
        train(merged(values, model={"bias": False}), resume=True)


def test_the_listener_sees_the_cache_of_the_training_episodes_alone(
    values: dict[str, Any], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    config = merged(values, data={"validation_fraction": 0.5, "cache": str(cache)}, optim={"steps": 1})
    recorder = Recorder()
    train(config, listener=recorder)
    assert recorder.cached == [(0, 1), (1, 1)]
    assert len(list(cache.iterdir())) == 2


def test_weight_decay_acts_where_the_objective_says() -> None:
    objective = ToyObjective(torch.nn.Linear(3, 3), noise=0.0)
    options = parse_config(
        ToyTrainConfig,
        {"data": {"root": "d", "cameras": ["c"]}, "run": {"out": "o"}, "optim": {"weight_decay": 0.5}},
    ).optim
    decayed, spared = make_optimiser(objective, options, decays=objective.decays).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.5, 0.0)
    assert [p.ndim for p in decayed["params"]] == [2]
    assert [p.ndim for p in spared["params"]] == [1]


def test_a_run_that_diverges_keeps_its_last_checkpoint(values: dict[str, Any]) -> None:
    config = merged(
        values, optim={"learning_rate": 1e30, "warmup_fraction": 0.0}, run={"checkpoint_every": 1}
    )
    with pytest.raises(PolicyFault, match=r"training diverged in step \d+"):
        train(config)
    assert (config.run.out / "checkpoints").is_dir()


def test_a_recipe_refuses_before_anything_is_written(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"data\.action: got 1; allowed: 3 numbers"):
        train(merged(values, data={"action": "timestamp"}))
    assert not Path(values["run"]["out"]).exists()


def test_statistics_in_units_that_the_data_set_does_not_state_are_refused(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = RECIPE.start

    def stated(*arguments: Any, **keywords: Any) -> Any:
        made = start(*arguments, **keywords)
        state = made.stats.stats.state
        state = replace(state, units=(ColumnUnit(),) * state.width)
        return replace(made, stats=replace(made.stats, stats=replace(made.stats.stats, state=state)))

    monkeypatch.setattr(type(RECIPE), "start", staticmethod(stated))
    with pytest.raises(ConfigError, match="the bundle as it was before `wam convert units`"):
        train(merged(values))
    assert not Path(values["run"]["out"]).exists()


def test_the_rules_of_a_policy_are_checked_beside_the_common_ones(values: dict[str, Any]) -> None:
    for section, changes, text in (
        ("model", {"noise": -1.0}, r"model\.noise: got -1\.0; allowed: 0 or more"),
        ("optim", {"accumulate": 0}, r"optim\.accumulate: got 0"),
        ("model", {"depth": 3}, r"unknown key model\.depth"),
    ):
        with pytest.raises(ConfigError, match=text):
            merged(values, **{section: changes})


def test_a_missing_data_set_names_the_option_that_gives_it(values: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    del values["data"]["root"]
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=r"run\.yaml: data\.root is missing; .*--set data\.root=VALUE"):
        read_config(ToyTrainConfig, path)
    assert read_config(ToyTrainConfig, path, ["data.root=d"]).data.root == Path("d")


def test_a_file_is_trained_with_a_bar_and_a_line_that_says_how_it_ended(
    values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    train_from_file(RECIPE, path, overrides=["optim.steps=2"], resume=False, until=1)
    shown = " ".join(capsys.readouterr().out.split())
    assert "82 samples of 2 episodes" in shown
    assert "stopped, continue with --resume at step 1" in shown
    train_from_file(RECIPE, path, overrides=["optim.steps=2"], resume=True, until=None)
    assert "finished at step 2" in " ".join(capsys.readouterr().out.split())


class Scripted:
    """Answers an evaluation in closed loop with the next of some numbers of successes out of four."""

    def __init__(self, *successes: int) -> None:
        self._left = list(successes)
        self.trials: list[Trial] = []
        self.weights: list[bytes] = []

    def __call__(self, trial: Trial) -> TrialOutcome:
        self.trials.append(trial)
        self.weights.append((trial.bundle / "model.safetensors").read_bytes())
        done = self._left.pop(0)
        return TrialOutcome(episodes=4, successes=done, score=3 * done / 4)


def scored(values: dict[str, Any], **run: Any) -> ToyTrainConfig:
    return merged(values, run={"task": "carry", "eval_every": 1, "eval_episodes": 4, **run})


def test_the_bundle_that_does_best_in_closed_loop_is_kept_beside_the_last(values: dict[str, Any]) -> None:
    judge = Scripted(0, 2, 3, 1, 3, 2)
    config = scored(values, eval_seed=700)
    result = train(config, closed_loop=judge)
    out = config.run.out
    assert (result.best, result.outcome, result.finished) == (
        out / "best",
        (5, TrialOutcome(4, 3, 2.25)),
        True,
    )
    # Of two that are equal the later one, which has learnt for longer.
    assert (out / "best" / "model.safetensors").read_bytes() == judge.weights[4]
    assert open_bundle(out / "best").manifest.source == {"step": 5}
    assert open_bundle(out / "bundle").manifest.source == {"step": 6}
    assert {one.seeds for one in judge.trials} == {(700, 701, 702, 703)}
    assert {one.task for one in judge.trials} == {"carry"}
    rows = read_outcomes(out / "success.csv")
    assert [(step, one.successes) for step, one in rows] == [(1, 0), (2, 2), (3, 3), (4, 1), (5, 3), (6, 2)]


def test_a_run_ends_when_it_does_no_better_for_a_while(values: dict[str, Any]) -> None:
    judge = Scripted(1, 2, 2, 1)
    result = train(scored(values, eval_patience=2), closed_loop=judge)
    assert (result.step, result.finished, result.outcome) == (4, True, (3, TrialOutcome(4, 2, 1.5)))


def test_a_continued_run_goes_on_with_its_scores(values: dict[str, Any]) -> None:
    """A better bundle of before the interruption must not be replaced by a worse one of after it."""
    train(scored(values), until=3, closed_loop=Scripted(1, 4, 0))
    resumed = train(scored(values), resume=True, closed_loop=Scripted(2, 3, 3))
    assert resumed.outcome == (2, TrialOutcome(4, 4, 3.0))
    rows = read_outcomes(scored(values).run.out / "success.csv")
    assert [(step, one.successes) for step, one in rows] == [(1, 1), (2, 4), (3, 0), (4, 2), (5, 3), (6, 3)]


def test_scores_of_training_need_a_task_and_seeds_of_their_own(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"run\.task"):
        train(scored(values, task=""), closed_loop=Scripted())
    root = shutil.copytree(values["data"]["root"], Path(values["run"]["out"]).parent / "recorded")
    about = {"task": "carry", "seed": 7, "last_seed": 10, "quality": "fast"}
    (root / "meta" / "wam.json").write_text(json.dumps(about))
    overlapping = merged(values, data={"root": str(root)}, run={"eval_every": 1, "eval_seed": 10})
    with pytest.raises(ConfigError, match=r"outside 7 to 10.*run\.eval_seed"):
        train(overlapping, closed_loop=Scripted())
    with pytest.raises(ConfigError, match=r"run\.eval_every"):
        train(scored(values))


def test_a_score_that_no_decimal_number_hits_is_as_good_after_an_interruption(tmp_path: Path) -> None:
    """Rounded to four places, two thirds of a stage were more than two thirds: an equal bundle counted as worse."""
    (tmp_path / "bundle").mkdir()
    same = TrialOutcome(episodes=3, successes=0, score=2 / 3)
    SuccessLog(tmp_path, after_step=0, patience=0).add(1, same, bundle=tmp_path / "bundle")
    later = SuccessLog(tmp_path, after_step=1, patience=0)
    later.add(2, same, bundle=tmp_path / "bundle")
    assert later.best == (2, same)
