# SPDX-License-Identifier: Apache-2.0
"""What the documents point at exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
STAGES = (
    "input", "observation", "planner", "planner context", "routing", "action denoising", "action chunk", "splice",
    "safety chain", "trajectory", "controller",
)  # fmt: skip
"""The stages in the order in which data passes them."""


def stage_map() -> dict[str, list[str]]:
    """Return stage -> files, from the table in README.md."""
    rows = {}
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and LINK.search(cells[2]):
            rows[cells[0]] = LINK.findall(cells[2])
    return rows


def test_the_stage_map_names_every_stage_in_order() -> None:
    assert tuple(stage_map()) == STAGES


def test_every_file_of_the_stage_map_exists() -> None:
    missing = [path for files in stage_map().values() for path in files if not (ROOT / path).is_file()]
    assert not missing, f"README.md, stage map: {missing}"


def test_the_readme_begins_with_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "    make demo" in text
    assert "    make test" in text
    assert text.index("make demo") < text.index("## How data flows")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        path, _, heading = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        place = (page.parent / path) if path else page
        assert place.exists(), f"{page.name}: {target}"
        if heading and place.suffix == ".md":
            headings = re.findall(r"^#+ +(.*)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}
            assert heading in anchors, f"{page.name}: {target}"


def test_decisions_are_numbered_once_and_have_a_status() -> None:
    numbers: dict[str, str] = {}
    for path in sorted((ROOT / "docs" / "adr").glob("[0-9]*.md")):
        number = path.name[:4]
        assert number not in numbers, f"{path.name} and {numbers[number]}"
        numbers[number] = path.name
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# ADR {number}: "), path.name
        assert re.search(r"^Status: (accepted|superseded by ADR \d{4})", text, re.MULTILINE), path.name


def test_the_documentation_names_every_verb_and_make_target(tree: Any) -> None:
    from wam.cli.main import VERBS

    text = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    for verb in VERBS:
        assert f"`wam {verb}" in text, f"docs/reference/cli.md does not name wam {verb}"
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    for target in set(phony[1].split()) - {"help"}:
        assert f"`make {target}`" in text, f"docs/reference/cli.md does not name make {target}"
