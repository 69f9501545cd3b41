# SPDX-License-Identifier: Apache-2.0
"""The tutorials from a checkpoint to an arm: their commands, as the pages have them, on the small checkpoints."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from pathlib import Path

import pytest

from wam.cli.main import run
from wam.devices.loader import load_robot
from wam.models.bundle import open_bundle
from wam.policies.ranges import require_ranges

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = {"piper": "piper", "franka": "franka", "ur5e_inspire": "ur5e"}


def conversions(robot: str) -> list[list[str]]:
    """Return the conversions of the small checkpoint that a page prints, without `wam`."""
    page = (ROOT / f"docs/tutorials/{robot}-from-checkpoint-to-arm.md").read_text(encoding="utf-8")
    step = page.split("To practise:", 1)[1].split("## 3.", 1)[0]
    lines = re.sub(r"\\\n\s*", "", step).splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("    wam convert ")]


def write(folder: Path) -> None:
    """Write the small checkpoints; in this process, which has torch already."""
    runpy.run_path(str(ROOT / "examples/small_checkpoints.py"))["main"](folder)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("practice")
    write(folder / "ck")
    return folder


@pytest.mark.parametrize("robot", BUNDLES)
def test_the_page_converts_its_small_checkpoint_to_a_bundle_that_fits_the_robot(
    robot: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    for words in conversions(robot):
        assert run(words) == 0, capsys.readouterr().err
    bundle = workplace / "bundles" / BUNDLES[robot]
    require_ranges(open_bundle(bundle), load_robot(robot))
    capsys.readouterr()
    assert run(["info", "--policy", str(bundle), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    stated = next(words[words.index("--instruction") + 1] for words in conversions(robot))
    assert shown["instruction"] == stated, "what the arm will do is read before it does it"
    assert shown["control_period_s"] == pytest.approx(1 / 30 if robot == "piper" else 1 / 15)


def test_a_folder_that_is_there_is_not_written_over(workplace: Path) -> None:
    with pytest.raises(SystemExit, match="exists already"):
        write(workplace / "ck")
