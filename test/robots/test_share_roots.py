# SPDX-License-Identifier: Apache-2.0
"""config/ and urdf/ are found wherever pip puts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from wam.robots import paths


@pytest.mark.parametrize(
    "package",
    [
        "venv/lib/python3.11/site-packages",
        "home/.local/lib/python3.12/site-packages",  # pip install --user
        "usr/local/lib/python3.11/dist-packages",  # Debian's Python
    ],
)
def test_the_files_of_a_wheel_are_found_from_the_package(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `pip install --user`, sys.prefix is /usr and the files lie below ~/.local: no robot was known."""
    place = tmp_path / package
    shared = place.parents[2] / "share" / "wam_deploy"
    (shared / "config" / "robots").mkdir(parents=True)
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    monkeypatch.setattr(paths, "__file__", str(place / "wam" / "robots" / "paths.py"))
    assert next(iter(paths.share_roots())) == shared


def test_the_files_of_pip_install_target_lie_beside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "share" / "wam_deploy"
    (shared / "config" / "robots").mkdir(parents=True)
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "wam" / "robots" / "paths.py"))
    assert next(iter(paths.share_roots())) == shared
