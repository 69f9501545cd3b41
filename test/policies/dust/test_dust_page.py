# SPDX-License-Identifier: Apache-2.0
"""The explanation beside the code: what it names exists, and its tables are what the code says."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from wam.policies.dust.config import DustConfig
from wam.policies.dust.schedule import ActionRule, SamplerSettings, schedule
from wam.policies.dust.training.config import DustDataSection, DustModelSection, DustObjectiveSection

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "explanation" / "dust.md").read_text(encoding="utf-8")
DECISION = (DOCS / "adr" / "0030-dust-readings.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`(wam\.[\w.]+)`", PAGE)))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_on_the_page_exists(name: str) -> None:
    parts = name.split(".")
    for i in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:i]))
        except ModuleNotFoundError:
            continue
        for part in parts[i:]:
            found = getattr(found, part)
        return
    pytest.fail(f"{name} does not exist")


@pytest.mark.parametrize(
    "line", [x for x in PAGE.splitlines() if re.match(r"\| \d+ \| (end|start|either) \|", x)]
)
def test_the_table_of_evaluations_is_the_schedules(line: str) -> None:
    q, rule, *counts = (cell.strip() for cell in line.strip("|").split("|"))
    for one in ActionRule if rule == "either" else (ActionRule(rule),):
        have = schedule(SamplerSettings(q=int(q), rule=one, future=False)).counts()
        assert [have[k] for k in ("joint", "vision", "action", "total")] == [int(c) for c in counts]


def test_the_page_has_a_row_for_every_test_file_it_names() -> None:
    for name in set(re.findall(r"`(test_dust_\w+\.py)`", PAGE)):
        assert list(Path(__file__).parent.rglob(name)), name


def test_the_decision_lists_seventeen_readings_and_its_options_exist() -> None:
    assert re.findall(r"^\| (\d+) \|", DECISION, re.MULTILINE) == [str(i) for i in range(1, 18)]
    sections = {
        "model": {*DustConfig.__dataclass_fields__, *DustModelSection.__dataclass_fields__},
        "objective": set(DustObjectiveSection.__dataclass_fields__),
        "data": set(DustDataSection.__dataclass_fields__),
        "sampler": set(SamplerSettings.__dataclass_fields__),
    }
    options = re.findall(r"`(model|objective|data|sampler)\.(\w+)", DECISION + PAGE)
    assert len(options) > 15
    for section, key in options:
        assert key in sections[section], f"{section}.{key}"
