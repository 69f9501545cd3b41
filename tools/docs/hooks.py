# SPDX-License-Identifier: Apache-2.0
"""What MkDocs is told beyond mkdocs.yml: the navigation, pages from outside docs/, and Markdown as GitHub reads it.

The pages are written for GitHub, and stay readable there. Here
- the navigation follows the links of docs/README.md; a page that it does not name comes last in its folder;
- README, CONTRIBUTING, SECURITY and CHANGELOG become pages below project/, and a file of the source that a page links
  to becomes a page below source/: links stay inside the site;
- lists get the indentation that Python-Markdown wants.
"""

from __future__ import annotations

import posixpath
import re
import runpy
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
# MkDocs loads this file by its path: there is no package to import a neighbour from.
for_python_markdown = runpy.run_path(str(Path(__file__).with_name("commonmark.py")))["for_python_markdown"]
PROJECT = {
    "README.md": "readme",
    "CONTRIBUTING.md": "contributing",
    "SECURITY.md": "security",
    "CHANGELOG.md": "changelog",
}
FOLDERS = {
    "tutorials": "Tutorials",
    "how-to": "How-to guides",
    "reference": "Reference",
    "explanation": "Explanation",
    "adr": "Decisions",
}
LINK = re.compile(r"(\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^)\s]+)\)")
LANGUAGES = {
    ".py": "python",
    ".yaml": "yaml",
    ".msg": "text",
    ".xacro": "xml",
    ".ipynb": "json",
    ".sh": "bash",
}
LONGEST_SOURCE = 200_000
"""Files with more bytes are not shown [bytes]."""


def on_config(config: Any) -> Any:
    """Make the navigation."""
    docs = ROOT / "docs"
    told = [
        target.partition("#")[0]
        for _, target in LINK.findall((docs / "README.md").read_text(encoding="utf-8"))
    ]
    nav: list[Any] = [{"Home": "README.md"}]
    for folder, title in FOLDERS.items():
        there = sorted(str(path.relative_to(docs)) for path in (docs / folder).rglob("*.md"))
        order = [one for one in dict.fromkeys(told) if one in there]
        rest = [one for one in there if one not in order]
        top = [one for one in order + rest if one.count("/") == 1]
        deeper = [one for one in order + rest if one.count("/") > 1]
        entries: list[Any] = []
        for one in top:
            below = [page for page in deeper if page.startswith(one.removesuffix(".md") + "/")]
            entries.append(
                {
                    _title(docs / one): [
                        one,
                        *({_title(docs / page).partition(": ")[0]: page} for page in below),
                    ]
                    if below
                    else one
                }
            )
        nav.append({title: entries})
    nav.append({"Project": [f"project/{name}.md" for name in PROJECT.values()]})
    config.nav = nav
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages from outside docs/."""
    for name, page in PROJECT.items():
        files.append(_page(config, f"project/{page}.md", (ROOT / name).read_text(encoding="utf-8")))
    wanted: set[str] = set()
    for path in [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in PROJECT)]:
        for _, target in LINK.findall(path.read_text(encoding="utf-8")):
            place = _in_repository(path.relative_to(ROOT).as_posix(), target.partition("#")[0])
            if place and _is_source(place):
                wanted.add(place)
    for place in sorted(wanted):
        language = LANGUAGES.get(PurePosixPath(place).suffix, "text")
        text = (ROOT / place).read_text(encoding="utf-8")
        fence = "~~~~~~"
        page = f"---\nsearch:\n  exclude: true\n---\n\n# {place}\n\n{fence}{language}\n{text.rstrip()}\n{fence}\n"
        files.append(_page(config, f"source/{place}.md", page, listed=False))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Bring the links of a page into the site, and its lists into the form of Python-Markdown."""
    here = page.file.src_uri
    if here.startswith("source/"):
        return markdown
    from_project = {f"project/{page}.md": name for name, page in PROJECT.items()}
    origin = from_project.get(here, f"docs/{here}")

    def follow(link: re.Match[str]) -> str:
        text, target = link[1], link[2]
        path, mark, heading = target.partition("#")
        place = _in_repository(origin, path)
        if not place:
            return link[0]
        inside = _in_site(place)
        if inside is None:
            return text[1:-1] if text.startswith("[`") else f"{text[1:-1]} (`{place}`)"
        return f"{text}({posixpath.relpath(inside, posixpath.dirname(here) or '.')}{mark}{heading})"

    return str(for_python_markdown(LINK.sub(follow, markdown)))


def _title(path: Path) -> str:
    found = re.search(r"^# (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return (found[1] if found else path.stem).replace("`", "")


def _page(config: Any, name: str, text: str, *, listed: bool = True) -> File:
    made = File.generated(config, name, content=text)
    if not listed:
        from mkdocs.structure.files import InclusionLevel

        made.inclusion = InclusionLevel.NOT_IN_NAV
    return made


def _in_repository(origin: str, path: str) -> str:
    """Return the place of a link's target relative to the root; "" for one that is no file of the repository."""
    if not path or "://" in path or path.startswith(("mailto:", "/")):
        return ""
    place = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))
    return "" if place.startswith("..") else place


def _in_site(place: str) -> str | None:
    """Return the page of a file, or None where the site has none."""
    if place in PROJECT:
        return f"project/{PROJECT[place]}.md"
    if place.startswith("docs/"):
        inside = place.removeprefix("docs/")
        if (ROOT / place).is_dir():
            return f"{inside}/README.md" if (ROOT / place / "README.md").is_file() else None
        return inside
    return f"source/{place}.md" if _is_source(place) else None


def _is_source(place: str) -> bool:
    path = ROOT / place
    if place in PROJECT or place.startswith("docs/") or not path.is_file():
        return False
    if path.stat().st_size > LONGEST_SOURCE:
        return False
    return path.suffix in {*LANGUAGES, ".txt", ".toml", ".xml", ".md", ".cfg", ""}
