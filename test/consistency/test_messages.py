# SPDX-License-Identifier: Apache-2.0
"""Every field and constant of every message says what it means."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "wam_msgs"
FILES = sorted(path for kind in ("msg", "srv", "action") for path in (FOLDER / kind).iterdir())
FIELD = re.compile(r"^[A-Za-z][\w/<>=\[\]]*\s+(?P<name>\w+)\s*(?P<constant>=[^#]*)?(?P<rest>.*)$")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_field_is_explained_where_it_stands(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# "), "the first line says what the message is"
    fields = 0
    for line in lines:
        if not line.strip() or line.startswith(("#", "---")):
            continue
        match = FIELD.match(line)
        assert match, f"unreadable line: {line!r}"
        fields += 1
        comment = match["rest"].partition("#")[2].strip()
        assert len(comment) > 3, f"{match['name']} has no comment behind it"
    assert fields > 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_names_follow_the_style_of_ros(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        match = FIELD.match(line)
        if match is None or line.startswith("#"):
            continue
        pattern = r"[A-Z][A-Z0-9_]*" if match["constant"] else r"[a-z][a-z0-9_]*"
        assert re.fullmatch(pattern, match["name"]), f"{match['name']} in {path.name}"
