# SPDX-License-Identifier: Apache-2.0
"""The error of predicted action rows in SI units."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wam.training.action_error import ErrorSum, PredictedRows

JOINTS = ("elbow", "gripper")


def rows(error: float, *, samples: int, valid: list[bool], still: float = 0.5) -> PredictedRows:
    """Recorded rows of one, predicted ones off by `error` at the elbow and by a tenth of it at the gripper."""
    recorded = np.ones((samples, len(valid), 2))
    off = np.array([error, -error / 10])
    return PredictedRows(
        JOINTS, recorded + off, recorded, recorded - still, np.array([valid] * samples, dtype=np.bool_)
    )


def test_errors_are_means_over_samples_whatever_the_batches(tmp_path: Path) -> None:
    total = ErrorSum()
    total.add(rows(0.1, samples=3, valid=[True, True, True]))
    total.add(rows(0.5, samples=1, valid=[True, False, False]))
    found = total.result()
    assert found is not None
    assert (found.joints, found.samples) == (JOINTS, 4)
    np.testing.assert_allclose(found.policy[:, 0], [0.2, 0.1, 0.1])
    np.testing.assert_allclose(found.policy[:, 1], [0.02, 0.01, 0.01])
    assert found.scalars() == pytest.approx({"error_si": (0.4 + 0.04) / 6, "still_si": 0.5})
    found.write(tmp_path, step=7)
    written = json.loads((tmp_path / "action_error.json").read_text())
    assert (written["step"], written["samples"]) == (7, 4)
    assert written["policy"] == {"elbow": [0.2, 0.1, 0.1], "gripper": [0.02, 0.01, 0.01]}
    assert written["still"]["elbow"] == [0.5, 0.5, 0.5]


def test_rows_that_no_episode_reaches_do_not_count() -> None:
    total = ErrorSum()
    assert total.result() is None
    total.add(rows(0.1, samples=2, valid=[True, False]))
    found = total.result()
    assert found is not None
    assert found.policy.shape == (1, 2)


def test_a_joint_that_is_not_measured_has_no_number_for_standing_still(tmp_path: Path) -> None:
    total = ErrorSum()
    total.add(rows(0.1, samples=1, valid=[True], still=np.nan))
    found = total.result()
    assert found is not None
    found.write(tmp_path, step=1)
    assert json.loads((tmp_path / "action_error.json").read_text())["still"] == {
        "elbow": [None],
        "gripper": [None],
    }
