# SPDX-License-Identifier: Apache-2.0
"""Refuses a built site that a browser without a network could not show: nothing may be loaded from elsewhere.

python tools/docs/check_site.py build/docs
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

LOADS = {
    ("img", "src"),
    ("script", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("video", "src"),
    ("link", "href"),
}
"""Attributes whose address is loaded with the page; that of a link to click is not."""
FOREIGN = re.compile(r"^(https?:)?//", re.IGNORECASE)
IN_STYLES = re.compile(r"(?:url\(|@import\s+)['\"]?((?:https?:)?//[^'\")\s]+)", re.IGNORECASE)


class _Loads(HTMLParser):
    """Collects what a page loads from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at a tag."""
        for name, value in attrs:
            if (tag, name) in LOADS and value and FOREIGN.match(value):
                self.found.append(value)


def foreign(site: Path) -> list[str]:
    """Return a line for each address that a page or a style sheet of `site` loads from elsewhere."""
    lines = []
    for path in sorted(site.rglob("*.html")):
        page = _Loads()
        text = path.read_text(encoding="utf-8")
        page.feed(text)
        styles = re.findall(r"<style[^>]*>(.*?)</style>", text, re.DOTALL)
        page.found += [one for style in styles for one in IN_STYLES.findall(style)]
        lines += [f"{path.relative_to(site)}: {one}" for one in page.found]
    for path in sorted(site.rglob("*.css")):
        lines += [
            f"{path.relative_to(site)}: {one}" for one in IN_STYLES.findall(path.read_text(encoding="utf-8"))
        ]
    return lines


def main() -> int:
    """Return 0, or 1 where something is loaded from elsewhere."""
    site = Path(sys.argv[1])
    found = foreign(site)
    for line in found:
        print(f"error: loaded from elsewhere: {line}", file=sys.stderr)
    pages = len(list(site.rglob("*.html")))
    if not found:
        print(f"{site / 'index.html'}: {pages} pages, nothing from elsewhere")
    return 1 if found or not pages else 0


if __name__ == "__main__":
    sys.exit(main())
