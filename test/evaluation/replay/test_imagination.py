# SPDX-License-Identifier: Apache-2.0
"""Imagined futures against what came: compared at the time that was imagined, in the policy's own features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wam.core.fakes import FakeExecutor, FakePlanner
from wam.core.observation import CameraFrame, Observation
from wam.core.policy import Features, LoadedPolicy, RoutedContext
from wam.data.fakes import fake_robot, write_fake_bag
from wam.evaluation.replay.engine import ReplayOptions, ReplaySettings
from wam.evaluation.replay.events import read_events
from wam.evaluation.replay.session import replay
from wam.runtime.policy import PolicyRequest, load_fake

MS = 1_000_000
ROBOT = fake_robot()
AHEAD_NS = 500 * MS
SETTINGS = ReplaySettings(planner_latency_ns=100 * MS, executor_latency_ns=50 * MS, planner_period_ns=0)


class SeeingPlanner(FakePlanner):
    """Perceives the mean of every colour."""

    def perceive(self, observation: Observation) -> Features:
        """Return float32 [3]."""
        (frame,) = observation.frames.values()
        return {"colour": frame.rgb.reshape(-1, 3).mean(0, dtype=np.float64).astype(np.float32)}


@dataclass(frozen=True, slots=True)
class Dream:
    """An `Imagination` without pictures."""

    stamp_ns: int
    target_stamp_ns: int
    dreamt: Features

    def features(self) -> Features:
        return self.dreamt

    def frame(self, camera: str) -> CameraFrame | None:
        return None


class DreamingExecutor(FakeExecutor):
    """Imagines what the test tells it to."""

    def __init__(self, contract: Any, dream: Any) -> None:
        super().__init__(contract)
        self._dream = dream
        self._seen: Any = None
        self._stamp_ns = 0

    def route(self, observation: Observation, *, context: Any) -> RoutedContext[Any]:
        """Remember what is seen."""
        self._seen, self._stamp_ns = observation, observation.stamp_ns
        return super().route(observation, context=context)

    @property
    def imagination(self) -> Dream | None:
        """Return the dream of the last observation."""
        features = None if self._seen is None else self._dream(self._seen)
        return None if features is None else Dream(self._stamp_ns, self._stamp_ns + AHEAD_NS, features)


def policy(dream: Any) -> LoadedPolicy:
    plain = load_fake(PolicyRequest("fake", planner=True, executor=True), robot=ROBOT)
    contract = plain.contract
    return replace(plain, planner=SeeingPlanner(contract), executor=DreamingExecutor(contract, dream))


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("in") / "bag"
    write_fake_bag(path, robot=ROBOT, seconds=3.0)
    return path


def colours(bag: Path, out: Path) -> dict[int, np.ndarray[Any, Any]]:
    """Return what the policy perceives, by stamp, from a replay that notes it."""
    seen: dict[int, np.ndarray[Any, Any]] = {}

    def note(observation: Observation) -> None:
        seen[observation.stamp_ns] = SeeingPlanner.perceive(None, observation)["colour"]  # type: ignore[arg-type]

    go(bag, out, policy(note), period_ns=30 * MS)
    return seen


def go(bag: Path, out: Path, loaded: LoadedPolicy, *, period_ns: int = 100 * MS) -> dict[str, Any]:
    settings = replace(
        SETTINGS, executor_period_ns=period_ns, executor_latency_ns=min(50 * MS, period_ns // 2)
    )
    options = ReplayOptions(bag=bag, policy_name="dreamer", settings=settings)
    return replay(options, robot=ROBOT, policy=loaded, report=out).summary


def test_a_dream_that_comes_true_has_no_error_and_full_skill(tmp_path: Path, bag: Path) -> None:
    real = colours(bag, tmp_path / "notes")
    times = np.array(sorted(real))

    def truth(observation: Observation) -> Features | None:
        i = int(np.argmin(np.abs(times - (observation.stamp_ns + AHEAD_NS))))
        return (
            {"colour": real[int(times[i])]} if abs(times[i] - observation.stamp_ns - AHEAD_NS) < MS else None
        )

    metrics = go(bag, tmp_path / "r", policy(truth))["metrics"]
    assert metrics["imagined_futures"] > 10
    assert metrics["imagination_mse"] == pytest.approx(0.0, abs=1e-9)
    assert metrics["imagination_still_mse"] > 1.0
    assert metrics["imagination_skill"] == pytest.approx(1.0)
    assert metrics["imagination_cosine"] == pytest.approx(1.0)


def test_a_dream_that_nothing_changes_has_no_skill(tmp_path: Path, bag: Path) -> None:
    summary = go(bag, tmp_path / "r", policy(lambda seen: SeeingPlanner.perceive(None, seen)))  # type: ignore[arg-type]
    metrics, intervals = summary["metrics"], summary["intervals"]
    assert metrics["imagination_mse"] == metrics["imagination_still_mse"] > 0.0
    assert metrics["imagination_skill"] == pytest.approx(0.0)
    assert (
        intervals["imagination_mse"]["low"]
        <= metrics["imagination_mse"]
        <= intervals["imagination_mse"]["high"]
    )
    assert intervals["better_imagination_rate"]["value"] == 0.0
    for event in read_events(tmp_path / "r" / "events.jsonl", "imagination"):
        assert event["target_stamp_ns"] - event["stamp_ns"] == AHEAD_NS
        assert abs(event["time_ns"] - event["target_stamp_ns"]) < 34 * MS


def test_a_policy_without_a_world_model_has_no_figures_and_no_fault(tmp_path: Path, bag: Path) -> None:
    metrics = go(
        bag, tmp_path / "r", load_fake(PolicyRequest("fake", planner=True, executor=True), robot=ROBOT)
    )
    assert metrics["metrics"]["imagined_futures"] == 0
    assert metrics["metrics"]["imagination_mse"] is None
    assert "imagination_mse" not in metrics["intervals"]


@pytest.mark.parametrize(
    ("features", "text"),
    [
        ({"colour": np.zeros(4, np.float32)}, "imagines other features than it perceives"),
        ({"sound": np.zeros(3, np.float32)}, "imagines other features than it perceives"),
        ({"colour": np.full(3, np.nan, np.float32)}, "the imagined future is not finite"),
    ],
)
def test_a_dream_of_another_shape_or_without_numbers_is_a_fault_of_the_policy(
    tmp_path: Path, bag: Path, features: Features, text: str
) -> None:
    summary = go(bag, tmp_path / "r", policy(lambda seen: features))
    assert summary["verdict"] == "fault"
    assert [fault for fault in summary["faults"] if text in fault]
    assert len(summary["faults"]) == 1
