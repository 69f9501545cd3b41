# SPDX-License-Identifier: Apache-2.0
"""The reference pages are what the code says, and no cause, error or topic is without its words."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def reference(*arguments: str, at: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.reference", *arguments],
        cwd=at,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("part", ["messages", "troubleshooting"])
def test_a_page_made_from_the_code_is_what_the_code_says(part: str) -> None:
    done = reference("--check", part)
    assert done.returncode == 0, done.stderr


@pytest.mark.ros
@pytest.mark.sim
def test_the_pages_of_the_nodes_are_what_running_nodes_have() -> None:
    done = reference("--check", "nodes")
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A copy of the tree that a test may change; what is not copied is linked."""
    for entry in ROOT.iterdir():
        if entry.name in ("wam", "wam_safety_node", "tools"):
            shutil.copytree(
                entry, tmp_path / entry.name, ignore=shutil.ignore_patterns("*.gif", "shipped", "__pycache__")
            )
        elif entry.name not in (".git", "build", ".venv"):
            (tmp_path / entry.name).symlink_to(entry)
    return tmp_path


NEW = '"new_cause": Cause(Ladder.STOP, Verdict.STOP),\n    "estop": Cause('


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{path}: {old!r} stands there {text.count(old)} times"
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("wam/core/ladder.py", '"estop": Cause(', NEW, "new_cause"),
        ("wam/robots/zones.py", '"stop_zone", text', '"forbidden_zone", text', "forbidden_zone"),
        ("wam/runtime/task.py", "SHUTDOWN = 8", "SHUTDOWN = 8\n    ASLEEP = 9", "ASLEEP"),
        ("wam/robots/zones.py", '"stop_zone", text', "name_of(zone), text", "name_of(zone)"),
        ("wam/robots/zones.py", '"stop_zone", text', "code, text", "the code of a finding is code"),
        ("wam_safety_node/watch.py", '_hold("other_namespace"', '_hold("another_namespace"', "another_namespace"),
    ],
)  # fmt: skip
def test_a_new_cause_without_a_remedy_is_refused(
    changed: Path, file: str, old: str, new: str, said: str
) -> None:
    replace(changed / file, old, new)
    done = reference("--check", "troubleshooting", at=changed)
    assert done.returncode == 1
    assert said in done.stderr, done.stderr


def test_a_remedy_for_a_cause_that_is_gone_is_refused(changed: Path) -> None:
    file = changed / "tools" / "reference" / "causes.yaml"
    file.write_text(file.read_text() + "gone:\n  {meaning: A., check: B., remedy: C.}\n", encoding="utf-8")
    done = reference("--check", "troubleshooting", at=changed)
    assert done.returncode == 1
    assert "has causes that the code does not: gone" in done.stderr


ON_THE_PAGE_OF = {"wam_safety_estop": "wam_safety", "wam_ingest": "wam_executor"}
"""Node that belongs to another one -> the node in whose process it runs, and whose page tells of it."""


NAMED_BY_PARAMETERS = ("wam_driver", "wam_gate", "wam_estop_button")
"""Nodes whose topics parameters name, and whose calls are those of a recovery."""

COMMANDS = ("_ros2cli_*", "wam_doctor", "wam_operator", "wam_record")
"""Nodes of commands, which have no page."""


def test_every_topic_and_service_that_a_node_is_granted_stands_on_its_page() -> None:
    from wam.devices.loader import load_robot
    from wam.ros.security.grants import LIFECYCLE, PLAIN
    from wam.ros.security.suite import ENCLAVES

    plain = LIFECYCLE | PLAIN
    for robot in ("piper", "franka", "ur5e_inspire"):
        described = load_robot(robot)
        for node, rule in {name: rule for one in ENCLAVES for name, rule in one.nodes.items()}.items():
            page = ROOT / "docs" / "reference" / "nodes" / f"{ON_THE_PAGE_OF.get(node, node)}.md"
            if node in NAMED_BY_PARAMETERS or node in COMMANDS:
                continue
            text, granted = page.read_text(encoding="utf-8"), rule(described)
            for name in _own(granted, plain):
                camera = any(name.startswith(one.topic.rpartition("/")[0]) for one in described.cameras)
                own = name.replace(f"{page.stem}/", "~/", 1)
                assert f"`{name}`" in text or f"`{own}`" in text or camera, (
                    f"{page.name} does not name {name} ({robot})"
                )


def _own(granted: Any, plain: Any) -> list[str]:
    names = (
        (granted.publishes - plain.publishes)
        | (granted.subscribes - plain.subscribes)
        | (granted.serves - plain.serves)
        | granted.calls
        | granted.acts
        | granted.asks
    )
    return sorted(names)


def test_every_message_is_on_the_page_of_messages() -> None:
    text = (ROOT / "docs" / "reference" / "messages.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^### (\w+)$", text, re.MULTILINE))
    assert headings == {
        path.stem for kind in ("msg", "srv", "action") for path in (ROOT / "wam_msgs" / kind).iterdir()
    }
