# SPDX-License-Identifier: Apache-2.0
"""The task text of a converted bundle, where the command line gave none."""

from __future__ import annotations

from pathlib import Path

import pytest

from wam.models.bundle import open_bundle
from wam.policies.bundles import make_tiny_bundle
from wam.policies.task_text import warn_of_task


def test_a_text_that_nobody_gave_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A converted checkpoint took "fold the towel" in silence, whatever it had been trained for."""
    make_tiny_bundle(tmp_path / "tiny", "aha_wam")
    bundle = open_bundle(tmp_path / "tiny")
    warn_of_task(bundle, "")
    told = capsys.readouterr().err
    assert f"the policy is told “{bundle.manifest.instruction}”" in told
    warn_of_task(bundle, "lift the cube")
    assert not capsys.readouterr().err
