# SPDX-License-Identifier: Apache-2.0
"""Writes the reference pages that are made from the code, or compares them with it.

tools/setup/env.sh .venv/bin/python -m tools.reference              # writes all
.venv/bin/python -m tools.reference messages troubleshooting        # only these; no ROS is needed
tools/setup/env.sh .venv/bin/python -m tools.reference --check      # exit code 1 and a line for each stale page
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from . import messages, troubleshooting
from .pages import COMMAND, REFERENCE, ROOT, StaleEntry


def _nodes() -> dict[Path, str]:
    # rclpy, MuJoCo and every node: only where they are asked for.
    from . import live, nodes

    return nodes.pages(live.facts())


PARTS: dict[str, Callable[[], dict[Path, str]]] = {
    "messages": lambda: {REFERENCE / "messages.md": messages.page()},
    "troubleshooting": lambda: {REFERENCE / "troubleshooting.md": troubleshooting.page()},
    "nodes": _nodes,
}


def main() -> int:
    """Return 0, or 1 where a page is stale or cannot be made."""
    parser = argparse.ArgumentParser(prog="python -m tools.reference", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; by default all")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    try:
        made = {path: text for name in options.parts or PARTS for path, text in PARTS[name]().items()}
    except StaleEntry as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    stale = [path for path, text in made.items() if _written(ROOT / path) != text]
    for path in stale:
        if options.check:
            print(f"{path} is not what the code says; write it anew: {COMMAND}", file=sys.stderr)
        else:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(made[path], encoding="utf-8")
            print(path)
    return 1 if options.check and stale else 0


def _written(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
