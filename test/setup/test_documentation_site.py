# SPDX-License-Identifier: Apache-2.0
"""tools/docs: pages are read as GitHub reads them, and a site that loads something from elsewhere is refused."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECK = ROOT / "tools" / "docs" / "check_site.py"


def rewritten(text: str) -> str:
    rewrite = runpy.run_path(str(ROOT / "tools" / "docs" / "commonmark.py"))["for_python_markdown"]
    return str(rewrite(text))


@pytest.mark.parametrize(
    ("github", "python_markdown"),
    [
        ("text\n- one\n- two\n", "text\n\n-   one\n-   two\n"),
        ("1. one\n2. two\n", "1.  one\n2.  two\n"),
        ("10. ten\n    more\n", "10. ten\n    more\n"),
        ("- one\n  - below\n- two\n", "-   one\n    -   below\n-   two\n"),
        ("1. one\n\n       code\n\n   text\n2. two\n", "1.  one\n\n        code\n\n    text\n\n2.  two\n"),
        ("- one\ngoes on\n", "-   one\n    goes on\n"),
        ("- one\n\ntext\n", "-   one\n\ntext\n"),
        ("text\n| a |\n|---|\n| b |\n", "text\n\n| a |\n|---|\n| b |\n"),
        ("    code - no list\n", "    code - no list\n"),
        ("```\n- no list\n```\n", "```\n- no list\n```\n"),
        ("- one\n\n  ```\n  - no list\n  ```\n", "-   one\n\n    ```\n    - no list\n    ```\n"),
    ],
)
def test_a_page_is_read_as_github_reads_it(github: str, python_markdown: str) -> None:
    assert rewritten(github) == python_markdown


def check(site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(CHECK), str(site)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "loaded",
    [
        '<script src="https://cdn.example/a.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/b.css">',
        '<img src="http://example/c.png">',
        "<style>@import 'https://fonts.example/d.css';</style>",
    ],
)
def test_a_site_that_loads_something_from_elsewhere_is_refused(tmp_path: Path, loaded: str) -> None:
    (tmp_path / "index.html").write_text(f"<html><body>{loaded}</body></html>", encoding="utf-8")
    done = check(tmp_path)
    assert done.returncode == 1
    assert "index.html" in done.stderr


def test_a_link_that_is_only_clicked_is_no_load(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<a href="https://ros.org">ROS</a>', encoding="utf-8")
    (tmp_path / "own.css").write_text("a { background: url(own.png) }", encoding="utf-8")
    done = check(tmp_path)
    assert done.returncode == 0, done.stderr


def test_an_empty_folder_is_no_site(tmp_path: Path) -> None:
    assert check(tmp_path).returncode == 1
