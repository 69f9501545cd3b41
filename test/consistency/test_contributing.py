# SPDX-License-Identifier: Apache-2.0
"""What contributors' tools run is what the documents and requirements/ say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yaml"
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yaml"))


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    return found


def commands(job: dict[str, Any]) -> str:
    return "\n".join(step.get("run", "") for step in job["steps"])


def test_the_workflow_runs_what_contributors_run_on_every_python(jobs: dict[str, Any]) -> None:
    tests = jobs["tests"]
    shards = tests["strategy"]["matrix"]["shard"]
    assert f".ci/run --shard ${{{{ matrix.shard }}}}/{len(shards)}" in commands(tests)
    assert shards == list(range(1, len(shards) + 1))
    for job in ("tests", "wheel"):
        assert jobs[job]["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.12", "3.13"]


def test_the_workflow_builds_with_a_distribution_as_the_guide_says(jobs: dict[str, Any]) -> None:
    guide = (ROOT / "docs" / "how-to" / "with-a-distribution.md").read_text(encoding="utf-8")
    run = commands(jobs["distribution"])
    rosdep = "rosdep install --from-paths src src/wam_deploy/wam_msgs --ignore-src -r -y"
    for command in (rosdep, "tools/colcon_build.sh", "python3 -m venv --system-site-packages"):
        assert command in guide
        assert command in run


def test_every_target_of_make_that_the_workflow_calls_is_there(jobs: dict[str, Any]) -> None:
    called = {
        name for job in jobs.values() for name in re.findall(r"^\s*make (\w+)", commands(job), re.MULTILINE)
    }
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    missing = {name for name in called if not re.search(rf"^{name}:", makefile, re.MULTILINE)}
    assert "docs" in called
    assert not missing


def test_pre_commit_formats_with_the_ruff_that_is_pinned() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (rev,) = (one["rev"] for one in config["repos"] if one["repo"].endswith("/ruff-pre-commit"))
    pinned = re.search(r"^ruff==(.+)$", (ROOT / "requirements" / "dev.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert rev == f"v{pinned[1]}"


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_an_issue_form_asks_for_what_is_needed_to_reproduce(form: Path) -> None:
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(content)
    fields = [field for field in content["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_owners_are_named_for_what_is_there() -> None:
    lines = (ROOT / ".github" / "CODEOWNERS").read_text(encoding="utf-8").splitlines()
    places = [line.split()[0] for line in lines if line and not line.startswith("#")]
    assert places[0] == "*"
    assert not [place for place in places[1:] if not (ROOT / place.strip("/")).exists()]


def test_the_quality_declaration_claims_the_levels_that_rep_2004_has() -> None:
    text = (ROOT / "QUALITY_DECLARATION.md").read_text(encoding="utf-8")
    assert re.search(r"\*\*quality level [1-5]\*\*", text)
    assert all(f"`{name}`" in text.splitlines()[0] for name in ("wam_deploy", "wam_msgs"))
