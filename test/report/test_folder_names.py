# SPDX-License-Identifier: Apache-2.0
"""Folders of reports that name themselves."""

from __future__ import annotations

from pathlib import Path

from wam.report.folder import new_folder


def test_two_runs_in_one_second_do_not_share_a_folder(tmp_path: Path) -> None:
    """Both took the name of the second, and the later one wrote over the earlier."""
    made = [new_folder(tmp_path / "reports", "piper-20261130-120000") for _ in range(3)]
    assert len(set(made)) == 3
    assert all(folder.is_dir() for folder in made)
    assert [folder.name for folder in made[1:]] == ["piper-20261130-120000-2", "piper-20261130-120000-3"]
