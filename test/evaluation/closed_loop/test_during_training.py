# SPDX-License-Identifier: Apache-2.0
"""Episodes that score a bundle while it is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from wam.core.errors import ConfigError
from wam.evaluation.closed_loop import during_training
from wam.evaluation.closed_loop.during_training import score_bundle
from wam.sim.tasks.registry import find_task
from wam.training.closed_loop import Trial, TrialOutcome

pytestmark = [pytest.mark.sim, pytest.mark.camera]


def test_a_bundle_runs_the_episodes_of_its_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    short = replace(find_task("piper_move_large_object"), time_limit=0.5)
    monkeypatch.setattr(during_training, "find_task", lambda name: short)
    outcome = score_bundle(Trial(Path("aha_wam/random"), short.name, seeds=(500, 501), images="fast"))
    assert outcome == TrialOutcome(episodes=2, successes=0, score=0.0)


def test_a_task_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match="carry"):
        score_bundle(Trial(Path("aha_wam/random"), "carry", seeds=(500,), images=""))
