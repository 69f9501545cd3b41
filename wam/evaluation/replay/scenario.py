# SPDX-License-Identifier: Apache-2.0
"""Scenario files: many recordings, variants of policy and settings, one gate. Reading, expanding, averaging.

robot: g1_inspire
policy: runs/pick_bottle            # or a list in `sweep`
recordings: [ep1, ep2, ep3]         # relative to this file; or dataset, episodes, convert: see dataset_source
settings: {planner_latency: 0.08, executor_latency: 0.04, seed: 0}
sweep: {seed: [0, 1, 2]}            # every combination is replayed on every recording
gate:
  thresholds: {skill: {min: 0.2}, coverage: {min: 0.99}}   # on the means over recordings
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from wam.core.chunk.splice import Strategy
from wam.core.clock import seconds_to_ns
from wam.core.errors import ConfigError
from wam.evaluation.metrics.gate import (
    NO_GATE,
    Gate,
    GateCheck,
    GateSource,
    check_gate,
    checks_as_json,
    parse_gate,
    require_known,
)
from wam.evaluation.metrics.table import gate_names
from wam.evaluation.replay.dataset_source import DatasetSource, parse_dataset
from wam.evaluation.replay.engine import MEASURED, ReplaySettings, parse_strategy
from wam.report.machine import machine_info
from wam.report.numbers import distribution, plain_number
from wam.report.statistics import Interval, bootstrap_mean, interval_as_json
from wam.runtime.schedule import SCHEDULE

SCENARIO_SCHEMA = "wam/replay-scenario/1"
KEYS = ("robot", "policy", "recordings", "dataset", "episodes", "convert", "settings", "sweep", "gate")
MAX_RUNS = 10_000

FEWEST_FOR_INTERVAL = 5
"""Recordings from which on a mean over them has an interval: of fewer, resampling gives their range and no more."""

DEFAULTS: Mapping[str, float | int | str | bool] = {
    "planner_latency": SCHEDULE.planner_latency,
    "executor_latency": SCHEDULE.executor_latency,
    "planner_period": SCHEDULE.planner_period,
    "executor_period": SCHEDULE.executor_period,
    "max_context_age": SCHEDULE.max_context_age,
    "strategy": SCHEDULE.strategy.value,
    "seed": 0,
    "instruction": "",
    "namespace": "",
    "lenient": False,
}
"""Settings of a run with their defaults; times in seconds, as the options of `wam replay`."""


@dataclass(frozen=True, slots=True)
class ScenarioVariant:
    """One combination of policy and settings.

    Attributes:
        name: the swept values, e.g. "seed=1"; "all" where nothing is swept.
        policy: bundle or built-in name.
        values: settings by name.
    """

    name: str
    policy: str
    values: Mapping[str, Any]

    def settings(self) -> ReplaySettings:
        """Return the schedule of planner and executor."""
        return ReplaySettings(
            planner_latency_ns=_latency(self.values["planner_latency"]),
            executor_latency_ns=_latency(self.values["executor_latency"]),
            planner_period_ns=seconds_to_ns(self.values["planner_period"]),
            executor_period_ns=seconds_to_ns(self.values["executor_period"]),
            max_context_age_ns=seconds_to_ns(self.values["max_context_age"]),
            strategy=Strategy(self.values["strategy"]),
        )


@dataclass(frozen=True, slots=True)
class Scenario:
    """Content of a scenario file.

    Attributes:
        name: file name without suffix.
        robot: name or path of the robot file.
        recordings: bags; none before the episodes of a data set are converted.
        variants: combinations to replay on every recording.
        gate: thresholds on the means over recordings; the default gate judges every run by itself.
        dataset: data set whose episodes are the recordings, or None.
        refused: recording -> why it cannot be replayed.
    """

    name: str
    robot: str
    recordings: tuple[Path, ...]
    variants: tuple[ScenarioVariant, ...]
    gate: Gate
    dataset: DatasetSource | None = None
    refused: Mapping[Path, str] = field(default_factory=dict)

    def of_episodes(self, bags: Mapping[Path, str]) -> Scenario:
        """Return the scenario with the converted episodes of its data set as recordings.

        Args:
            bags: bag -> why its episode could not be converted, or "".
        """
        return replace(
            self, recordings=tuple(bags), refused={bag: reason for bag, reason in bags.items() if reason}
        )


@dataclass(frozen=True, slots=True)
class Run:
    """One recording with one variant, done.

    Attributes:
        variant: name of the variant.
        recording: name of the recording.
        folder: its report, relative to the scenario's; "" where it could not run.
        summary: content of its summary.json; empty where it could not run.
        timing: content of its timing.json; empty where it could not run.
        error: why it could not run; "" otherwise.
        latencies: "l_prefill" and "l_chunk" of every call on the host [ms]; empty where it could not run.
    """

    variant: str
    recording: str
    folder: str
    summary: Mapping[str, Any]
    timing: Mapping[str, Any]
    error: str = ""
    latencies: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


Checked = tuple[ScenarioVariant, tuple[GateCheck, ...]]
"""A variant with its thresholds and what was measured."""


def read_scenario(path: Path) -> Scenario:
    """Read a scenario file.

    Raises:
        ConfigError: it is missing or illegal; the text names the place.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"scenario {path} does not exist", where="the argument FILE") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        line = str(error).splitlines()[0]
        raise ConfigError(
            f"scenario {path} cannot be read ({line})", allowed="YAML", where=str(path)
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: content", value=type(content).__name__, allowed="a mapping", where=str(path)
        )
    unknown = sorted(str(key) for key in content if key not in KEYS)
    if unknown:
        raise ConfigError(f"{path}: unknown keys", value=unknown, known=KEYS, where=str(path))
    dataset, recordings = _sources(content, path)
    robot = content.get("robot")
    if not isinstance(robot, str) or not robot:
        raise ConfigError(f"{path}: robot", value=str(robot), allowed="a name or a path", where=str(path))
    bags = tuple(path.parent / name for name in recordings)
    if len({bag.resolve().name for bag in bags}) != len(bags):
        raise ConfigError(
            f"{path}: recordings", value=recordings, allowed="folders of distinct names", where=str(path)
        )
    return Scenario(
        name=path.stem,
        robot=robot,
        recordings=bags,
        variants=_variants(content, path),
        gate=_gate(content.get("gate"), path),
        dataset=dataset,
    )


def _sources(content: Mapping[str, Any], path: Path) -> tuple[DatasetSource | None, list[str]]:
    """Return the data set, or the recordings by name."""
    if "dataset" in content:
        if "recordings" in content:
            raise ConfigError(
                f"{path}: recordings and dataset are both given", allowed="one of the two", where=str(path)
            )
        return parse_dataset(content, path), []
    for key in ("episodes", "convert"):
        if key in content:
            raise ConfigError(f"{path}: {key} without dataset", allowed="dataset: PATH", where=str(path))
    recordings = content.get("recordings")
    if not isinstance(recordings, list) or not recordings or not all(isinstance(x, str) for x in recordings):
        raise ConfigError(
            f"{path}: recordings",
            value=str(recordings),
            allowed="a list of paths, or dataset: PATH instead",
            where=str(path),
        )
    return None, recordings


def _gate(content: Any, path: Path) -> Gate:
    if content is None:
        return Gate()
    if content == NO_GATE:
        return Gate(GateSource.NONE)
    thresholds = parse_gate(content, source=f"{path}: gate")
    require_known(thresholds, gate_names(), where=str(path))
    return Gate.of(thresholds)


def sum_up(
    scenario: Scenario, runs: Sequence[Run]
) -> tuple[dict[str, Any], tuple[tuple[ScenarioVariant, tuple[GateCheck, ...]], ...]]:
    """Return the content of the scenario's summary.json and the checked gate of every variant.

    Raises:
        ConfigError: the gate names an unknown metric.
    """
    variants: dict[str, Any] = {}
    checked: list[Checked] = []
    for variant in scenario.variants:
        done = [run for run in runs if run.variant == variant.name and not run.error]
        means = _means(done)
        checks = (
            check_gate(
                scenario.gate.thresholds, {name: plain_number(mean.value) for name, mean in means.items()}
            )
            if done
            else ()
        )
        checked.append((variant, checks))
        variants[variant.name] = {
            "policy": variant.policy,
            "settings": dict(variant.values),
            "recordings": len(done),
            "metrics": {name: interval_as_json(mean) for name, mean in means.items()},
            "gate": checks_as_json(checks),
        }
    summary = {
        "schema": SCENARIO_SCHEMA,
        "scenario": scenario.name,
        "robot": scenario.robot,
        "verdict": scenario_verdict(runs, [checks for _, checks in checked], scenario.gate),
        "gate_source": scenario.gate.source.value,
        "variants": variants,
        "runs": [
            {
                "variant": run.variant,
                "recording": run.recording,
                "folder": run.folder,
                "error": run.error,
                "verdict": run.summary.get("verdict", "could not run"),
                "answers": {name: one["answer"] for name, one in run.summary.get("answers", {}).items()},
            }
            for run in runs
        ],
    }
    return summary, tuple(checked)


def scenario_verdict(runs: Sequence[Run], checks: Sequence[tuple[GateCheck, ...]], gate: Gate) -> str:
    """Return "could not run", "fault", "fail", "cannot be told", "pass" or "not judged".

    Args:
        runs: every run.
        checks: of a file's gate, for every variant.
        gate: a file's gate judges the means; the default gate judges every run, and the worst one counts.
    """
    if any(run.error for run in runs):
        return "could not run"
    if any(run.summary["faults"] for run in runs):
        return "fault"
    if gate.source is GateSource.NONE:
        return "not judged"
    if gate.source is GateSource.DEFAULT:
        verdicts = {run.summary["verdict"] for run in runs}
        return next((word for word in ("fail", "cannot be told") if word in verdicts), "pass")
    return "pass" if all(check.passed for each in checks for check in each) else "fail"


def latency_means(runs: Sequence[Run], *, jobs: int) -> dict[str, Any]:
    """Return L_prefill and L_chunk as the AHA-WAM paper measures them (appendix D), for the scenario's timing.json.

    The first episode of a variant warms up and is discarded; the means of the others are averaged. Percentiles are
    over all calls of those others.

    Args:
        runs: in the order in which they were started.
        jobs: processes that ran at the same time; with more than one they slowed each other down.
    """
    results: dict[str, float | None] = {}
    for variant in dict.fromkeys(run.variant for run in runs):
        timed = [run for run in runs if run.variant == variant and not run.error][1:]
        for name in ("l_prefill", "l_chunk"):
            episodes = [run.latencies[name] for run in timed if run.latencies[name]]
            means = [sum(episode) / len(episode) for episode in episodes]
            calls = distribution(
                np.concatenate([np.empty(0), *(np.asarray(episode) for episode in episodes)])
            )
            for label, value in (
                ("mean", sum(means) / len(means) if means else math.nan),
                ("p50", calls.p50),
                ("p99", calls.p99),
                ("p99_9", calls.p99_9),
            ):
                results[f"{variant}: {name}_{label}_ms"] = plain_number(value)
    return {
        "schema": "wam/replay-scenario-timing/1",
        "jobs": jobs,
        "results": results,
        "machine": machine_info(),
    }


def _variants(content: Mapping[str, Any], path: Path) -> tuple[ScenarioVariant, ...]:
    fixed = _table(content.get("settings"), f"{path}: settings", path)
    swept = _table(content.get("sweep"), f"{path}: sweep", path)
    for name, values in swept.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(
                f"{path}: sweep.{name}", value=str(values), allowed="a list of values", where=str(path)
            )
        if name in fixed or (name == "policy" and "policy" in content):
            raise ConfigError(
                f"{path}: {name} is both fixed and swept", allowed="one of the two", where=str(path)
            )
    names = list(swept)
    count = math.prod(len(values) for values in swept.values())
    if count > MAX_RUNS:
        raise ConfigError(
            f"{path}: sweep", value=f"{count} combinations", allowed=f"at most {MAX_RUNS}", where=str(path)
        )
    variants = []
    for combination in itertools.product(*(swept[name] for name in names)):
        chosen = dict(zip(names, combination, strict=True))
        policy = chosen.pop("policy", content.get("policy"))
        if not isinstance(policy, str) or not policy:
            raise ConfigError(
                f"{path}: policy", value=str(policy), allowed="a bundle or a built-in name", where=str(path)
            )
        values = {**DEFAULTS, **fixed, **chosen}
        for name, value in values.items():
            _check_setting(name, value, path)
        label = ", ".join(f"{name}={value}" for name, value in zip(names, combination, strict=True)) or "all"
        variants.append(ScenarioVariant(label, policy, values))
    if len({variant.name for variant in variants}) != len(variants):
        raise ConfigError(f"{path}: sweep", value=names, allowed="distinct values", where=str(path))
    return tuple(variants)


def _table(value: Any, what: str, path: Path) -> dict[str, Any]:
    if value is None:
        return {}
    allowed = (*DEFAULTS, "policy") if what.endswith("sweep") else tuple(DEFAULTS)
    if not isinstance(value, dict) or not set(value) <= set(allowed):
        given = sorted(map(str, value)) if isinstance(value, dict) else type(value).__name__
        raise ConfigError(what, value=given, allowed=f"any of {', '.join(allowed)}", where=str(path))
    return dict(value)


def _check_setting(name: str, value: Any, path: Path) -> None:
    default = DEFAULTS[name]
    what = f"{path}: {name}"
    if name.endswith("_latency") and value == MEASURED:
        return
    if isinstance(default, (bool, str)):
        if not isinstance(value, type(default)):
            raise ConfigError(what, value=str(value), allowed=f"a {type(default).__name__}", where=str(path))
        if name == "strategy":
            parse_strategy(str(value), what=what, where=str(path))
        return
    whole = isinstance(default, int)
    if (
        isinstance(value, bool)
        or not isinstance(value, int if whole else (int, float))
        or not 0 <= value <= 2**31
    ):
        kind = "a whole number" if whole else "a number [s]"
        raise ConfigError(what, value=str(value), allowed=f"{kind}, not negative", where=str(path))
    if name == "executor_period" and value < 0.005:
        raise ConfigError(what, value=str(value), allowed="at least 0.005 [s]", where=str(path))


def _latency(value: float | str) -> int | None:
    return None if value == MEASURED else seconds_to_ns(float(value))


def _means(runs: Sequence[Run]) -> dict[str, Interval]:
    """Return the mean of every metric over recordings, with a bootstrap interval where there are enough of them."""
    names = runs[0].summary["metrics"] if runs else {}
    values = {name: [run.summary["metrics"][name] for run in runs] for name in names}
    means = {
        name: bootstrap_mean([math.nan if value is None else value for value in sample])
        for name, sample in values.items()
    }
    return {
        name: mean if mean.count >= FEWEST_FOR_INTERVAL else replace(mean, low=math.nan, high=math.nan)
        for name, mean in means.items()
    }
