# SPDX-License-Identifier: Apache-2.0
"""docs/reference/messages.md: every message, service and action of wam_msgs, from its file and the comments in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .pages import ROOT, StaleEntry, foot, head, sentence, table

KINDS = (("msg", "Messages"), ("srv", "Services"), ("action", "Actions"))
PARTS = {"msg": ("",), "srv": ("Request", "Response"), "action": ("Goal", "Result", "Feedback")}
FIELD = re.compile(
    r"^(?P<type>[\w/]+(?:\[\d*\])?)\s+(?P<name>\w+)(?:\s*=\s*(?P<value>\S+))?\s*(?:#\s*(?P<text>.*))?$"
)


def page() -> str:
    """Return the page.

    Raises:
        StaleEntry: a line of a file is none that this knows.
    """
    parts = [head("Messages, services and actions")]
    parts.append("\n`ros2 interface show wam_msgs/msg/KVContext` shows the same in a terminal.\n")
    for folder, title in KINDS:
        parts.append(f"\n## {title}\n")
        for path in sorted((ROOT / "wam_msgs" / folder).glob(f"*.{folder}")):
            parts.append(f"\n### {path.stem}\n\n{_about(path)}\n")
            parts += list(_sections(path, PARTS[folder]))
    parts.append(foot("the files in `wam_msgs` and the comments in them"))
    return "".join(parts)


def _about(path: Path) -> str:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if "SPDX" not in line:
            lines.append(line.lstrip("# ").rstrip())
    return sentence(" ".join(lines))


def _sections(path: Path, names: tuple[str, ...]) -> Iterator[str]:
    sections = re.split(r"^---$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for name, section in zip(names, sections, strict=True):
        rows = []
        for line in section.splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            found = FIELD.match(line)
            if found is None:
                raise StaleEntry(f"{path.relative_to(ROOT)}: {line!r} is no field, constant or comment")
            value = f" = {found['value']}" if found["value"] else ""
            rows.append((f"`{found['name']}`{value}", f"`{found['type']}`", found["text"] or ""))
        title = f"\n**{name}**\n\n" if name else "\n"
        yield title + (table(("name", "type", "meaning"), rows) if rows else "Empty.\n")
