# SPDX-License-Identifier: Apache-2.0
"""The list of failed tests at the end of `make test`, from a run of pytest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUITE = """
import pytest

@pytest.fixture
def broken():
    raise OSError("no such arm")

def test_passes(): pass
def test_fails(): assert 1 + 1 == 3, "sums " * 100
def test_has_no_fixture(broken): pass
"""


def listed(*reports: Path) -> list[str]:
    """Return the lines that the script prints for `reports`."""
    command = [sys.executable, str(ROOT / "tools" / "failures.py"), *map(str, reports)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()


def test_each_failed_test_of_a_run_is_one_line(tmp_path: Path) -> None:
    """Continuous integration keeps the end of a log: a failure of the first of three runs was not in it."""
    (tmp_path / "test_suite.py").write_text(SUITE)
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--junit-xml=out.xml", "test_suite.py"]
    subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, timeout=60, check=False)
    lines = listed(tmp_path / "out.xml")
    assert [line.split(" - ")[0] for line in lines] == [
        "FAILED test_suite::test_fails",
        "FAILED test_suite::test_has_no_fixture",
    ]
    assert "sums sums" in lines[0]
    assert "no such arm" in lines[1]
    assert max(map(len, lines)) <= 240


def test_a_run_that_left_no_report_has_no_lines(tmp_path: Path) -> None:
    assert listed(tmp_path / "missing.xml") == []
