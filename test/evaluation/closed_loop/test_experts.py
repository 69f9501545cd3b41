# SPDX-License-Identifier: Apache-2.0
"""Success rates of the experts, and the page that shows them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wam.evaluation.closed_loop.experts import as_markdown, rates
from wam.sim.rollout import EpisodeResult, Traces
from wam.sim.tasks.task import Setting

pytestmark = pytest.mark.sim

NOTHING = Traces(np.zeros(0), np.zeros((0, 8)), np.zeros((0, 8)))


def result(seed: int, *, success: bool, setting: Setting = Setting.SEEN) -> EpisodeResult:
    return EpisodeResult(
        task="franka_box_to_bowl",
        setting=setting,
        seed=seed,
        variant="sponge",
        instruction="Pick up the sponge",
        success=success,
        progress=3 if success else 1,
        reached=(),
        time=8.0 + seed,
        max_contact_force=10.0 + seed,
        error="",
        traces=NOTHING,
    )


def test_rates_are_of_each_task_and_setting() -> None:
    episodes = [result(seed, success=seed != 2) for seed in range(4)]
    episodes += [result(0, success=False, setting=Setting.DISTRACTORS)]
    seen, crowded = rates(episodes)
    assert (seen.successes, seen.episodes, seen.failed_seeds) == (3, 4, (2,))
    assert seen.rate.low == pytest.approx(0.3006, abs=1e-4)
    assert seen.mean_time == pytest.approx((8 + 9 + 11) / 3)
    assert seen.mean_score == 2.5
    assert seen.max_force == 13.0
    assert (crowded.setting, crowded.successes) == ("distractors", 0)
    assert math.isnan(crowded.mean_time)
    assert crowded.as_json()["mean_time_s"] is None
    page = as_markdown([seen, crowded])
    assert "| seen | 3/4 | 0.30 .. 0.95 | 2.50 | 9.3 s | 13 N |" in page
    assert "| distractors | 0/1 |" in page
