# SPDX-License-Identifier: Apache-2.0
"""The page that puts the paper beside the code names only what exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "explanation" / "aha_wam.md"
NAMES = sorted(set(re.findall(r"`(wam\.[A-Za-z0-9_.]+)`", PAGE.read_text(encoding="utf-8"))))


def resolve(name: str) -> object:
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def test_the_page_names_functions() -> None:
    assert len(NAMES) > 30


@pytest.mark.parametrize("name", NAMES)
def test_a_name_on_the_page_exists(name: str) -> None:
    assert resolve(name) is not None


def test_every_equation_of_the_paper_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    numbers = {
        int(n) for group in re.findall(r"\*\*Eq\. ([0-9 and]+)\*\*", text) for n in re.findall(r"\d+", group)
    }
    assert numbers == set(range(2, 14))


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)]+\.md)\)", PAGE.read_text(encoding="utf-8")))
def test_a_link_on_the_page_leads_somewhere(target: str) -> None:
    assert (PAGE.parent / target).is_file()
